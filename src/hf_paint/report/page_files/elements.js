// Elements of the page. Text goes in as text nodes, so that no name can become markup.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== undefined && child !== null));
  return element;
};
const small = text => text ? make("small", {}, text) : "";
const headRow = columns => make("thead", {}, make("tr", {}, ...columns.map(column => make("th", {scope: "col"}, column))));

// Words between backticks are code.
const withCode = text => text.split("`").map((piece, n) => n % 2 ? make("code", {}, piece) : piece);

// A labelled list of choices. There is nothing to choose from fewer than two.
const chooser = (label, names, choose) => {
  if (names.length < 2) return "";
  const select = make("select", {change: () => choose(select.selectedIndex)}, ...names.map(name => make("option", {}, name)));
  return make("label", {}, label, select);
};

// A part that shows one of several tasks or models. `draw(place, item)` returns what follows the slider.
const oneOf = (label, part, items, draw) => {
  const place = make("div");
  let follow = () => {}, current = 0;
  const choose = position => {
    place.replaceChildren();
    follow = draw(place, items[position]);
    follow(current);
  };
  part.append(make("div", {class: "choose"}, chooser(label, items.map(item => item.name), choose)), place);
  choose(0);
  return i => { current = i; follow(i); };
};
const oneTask = (part, tasks, draw) => oneOf("Task", part, tasks, draw);
const levelBelow = part => part.parentElement.querySelector("h2") ? "h3" : "h4";
