// Numbers as text. The report holds fractions of 1; only this file makes percentages of them.

// Python rounds half to even and toFixed away from zero. They differ where the value is an odd number of eighths.
const twoDecimals = value => {
  const text = value.toFixed(2);
  return Number.isInteger(8 * value) && /[13579]$/.test(text) ? (value - Math.sign(value) / 1000).toFixed(2) : text;
};
const isNumber = value => typeof value === "number";
const percent = share => isNumber(share) ? twoDecimals(100 * share) : "";
const points = change => isNumber(change) ? (change < 0 ? "" : "+") + twoDecimals(100 * change) : "";
const range = (interval, format) =>
  interval && isNumber(interval.low) && isNumber(interval.high) ? `${format(interval.low)} to ${format(interval.high)}` : "";
const plain = value => isNumber(value) ? (Number.isInteger(value) ? String(value) : Number(value.toPrecision(4)).toString()) : "";
const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// A change is certain if its interval does not contain zero.
const verdict = gain => {
  if (!gain || !isNumber(gain.value)) return "";
  if (!isNumber(gain.low) || !isNumber(gain.high)) return gain.value === 0 ? "no change" : "no interval";
  if (gain.value === 0 && gain.low === 0 && gain.high === 0) return "no change";
  if (gain.low > 0) return "better";
  return gain.high < 0 ? "worse" : "not certain";
};
const isCertain = word => word === "better" || word === "worse";

// The other metrics of a task, which are fractions of 1 except these.
const METRICS = {
  mean_per_class: "mean per class", ece: "ECE", mean_average_precision: "mAP", mean_absolute_error: "MAE",
};
const PLAIN_METRICS = new Set(["loss", "mean_absolute_error"]);
const metricName = key => METRICS[key] ?? key.replace(/^accuracy_/, "accuracy, ").replaceAll("_", " ");
const metricText = (key, value) => PLAIN_METRICS.has(key) ? plain(value) : percent(value);
