// One series as a small chart: bars of mean sentiment around a zero line, the number of texts as faint bars below.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const SENTIMENT_HEIGHT = 80;
const VOLUME_HEIGHT = 26;

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** Join neighbouring points until at most `most` columns are left; means are weighted by the number of texts. */
export function columns(points, fromMs, toMs, most) {
  const span = Math.max(1, (toMs - fromMs) / most);
  const joined = Array.from({ length: most }, () => ({ documents: 0, negative: 0, sum: 0 }));
  for (const [start, documents, negative, mean] of points) {
    if (start < fromMs || start >= toMs) continue;
    const column = joined[Math.min(most - 1, Math.floor((start - fromMs) / span))];
    column.documents += documents;
    column.negative += negative;
    column.sum += documents * mean;
  }
  return joined;
}

/** An SVG of the columns; every value is a number, so nothing from a text can reach the markup. */
export function draw(joined, label) {
  const svg = shape("svg", {
    class: "chart", viewBox: `0 0 ${WIDTH} ${SENTIMENT_HEIGHT + VOLUME_HEIGHT}`,
    preserveAspectRatio: "none", role: "img", "aria-label": label,
  });
  const step = WIDTH / joined.length;
  const most = Math.max(1, ...joined.map((column) => column.documents));
  const middle = SENTIMENT_HEIGHT / 2;
  joined.forEach((column, index) => {
    if (!column.documents) return;
    const x = index * step;
    const width = Math.max(0.8, step - 1);
    const mean = Math.max(-1, Math.min(1, column.sum / column.documents));
    const height = Math.max(1, Math.abs(mean) * (middle - 2));
    svg.append(shape("rect", {
      class: mean < 0 ? "below" : "above", x, width, height, y: mean < 0 ? middle : middle - height,
    }));
    const volume = (column.documents / most) * (VOLUME_HEIGHT - 4);
    svg.append(shape("rect", {
      class: "volume", x, width, height: volume, y: SENTIMENT_HEIGHT + VOLUME_HEIGHT - volume,
    }));
  });
  svg.append(shape("line", { class: "zero", x1: 0, x2: WIDTH, y1: middle, y2: middle }));
  return svg;
}
