/** A small plot as SVG: one bar a side, with the least and the greatest round as a line across its end. Colours hold on light and dark pages. */
import { cellText, type Spread } from "./_results.ts";

export interface Bar {
  readonly label: string;
  readonly value: Spread | number;
}

const WIDTH = 380;
const LABELS = 96;
const VALUES = 84;
const ROW = 20;
const [OURS, THEIRS, TEXT] = ["#2f81f7", "#8b949e", "#768390"];

function spreadOf(value: Spread | number): Spread {
  return typeof value === "number" ? { median: value, min: value, max: value } : value;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

/** `title` is what a screen reader says. The first bar is ours; `limit` is a line across all of them, where the goal stands. */
export function plot(title: string, bars: readonly Bar[], limit?: number): string {
  const most = Math.max(limit ?? 0, ...bars.map(({ value }) => spreadOf(value).max));
  const x = (value: number): number => Math.round(LABELS + (value / most) * (WIDTH - LABELS - VALUES));
  const height = bars.length * ROW + 4;
  const rows = bars.flatMap(({ label, value }, i) => {
    const { median, min, max } = spreadOf(value);
    const [top, middle] = [i * ROW + 5, i * ROW + 12];
    return [
      `<text x="${LABELS - 6}" y="${middle + 4}" text-anchor="end">${escaped(label)}</text>`,
      `<rect x="${LABELS}" y="${top}" width="${Math.max(1, x(median) - LABELS)}" height="14" fill="${i === 0 ? OURS : THEIRS}"/>`,
      ...(max > min ? [`<path d="M${x(min)} ${middle}H${x(max)}" stroke="${TEXT}" stroke-width="2"/>`] : []),
      `<text x="${x(max) + 6}" y="${middle + 4}">${escaped(cellText(median))}</text>`,
    ];
  });
  const line = limit === undefined ? [] : [`<path d="M${x(limit)} 1V${height - 1}" stroke="${TEXT}" stroke-dasharray="3 2"/>`];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" role="img" font-family="sans-serif" font-size="12" fill="${TEXT}">`,
    `<title>${escaped(title)}</title>`,
    ...rows,
    ...line,
    "</svg>",
    "",
  ].join("\n");
}
