"""A typographic attack, before and after.

The name of a wrong shape is written over a drawn shape. This confuses the toy CLIP, but it rarely answers with the
word, as large CLIPs do. Patching on such pictures teaches it to look at the shape, and it keeps the clean pictures.
"""

from matplotlib import pyplot
from toy import SHAPES, label, one_shape, patched, save

from hf_paint import TypographicAttack


keys = {"image_size": 64, "font_sizes": [40, 60]}
clean, attacked = one_shape("clean"), one_shape("attacked", attack=keys)
curve = (result := patched(attacked, "typographic", keep=[clean])).curve
figure, places = pyplot.subplot_mosaic([["plot", "first"], ["plot", "second"]], width_ratios=[3, 1], figsize=(8, 4))
attack, test = TypographicAttack(**keys), attacked.rows["test"]
for row, place in enumerate(("first", "second")):
    shape = test[row]["label"]
    picture = attack(test[row]["image"], shape, SHAPES, split="test", row=row)
    places[place].imshow(picture)
    places[place].axis("off")
    places[place].set_title(f"a {SHAPES[shape]}")
found = [curve.get(alpha, "patching", "attacked", "test") for alpha in curve.alphas]
kept = [curve.get(alpha, "supported", "clean", "test") for alpha in curve.alphas]
axes = places["plot"]
axes.plot(curve.alphas, [100 * result.accuracy for result in kept], marker="o", label="clean: right")
axes.plot(curve.alphas, [100 * result.accuracy for result in found], marker="o", label="attacked: right")
words = [100 * result.attack_success / result.total for result in found]
axes.plot(curve.alphas, words, "--", marker="o", label="attacked: the word is the answer")
axes.axvline(result.alpha, color="black", linestyle=":", label=f"chosen: {result.alpha:g}")
axes.legend()
label(axes, x="alpha", y="% of test images", title="Words written over pictures")
save(__file__)
