/** A small plot as SVG: one bar a side, with the least and the greatest round as a line across its end. Colours hold on light and dark pages. */
import { cellText, type Spread } from "./_results.ts";

export interface Bar {
  readonly label: string;
  readonly value: Spread | number;
}

const WIDTH = 380;
/** What a letter takes at most, about: the texts are of 12 pixels. */
const LETTER = 7;
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

export interface Drawn {
  /** What a screen reader says. */
  readonly title: string;
  /** The line above the bars. */
  readonly unit: string;
  /** The first is ours. They start at zero. */
  readonly bars: readonly Bar[];
  /** A line across all bars, at the goal. */
  readonly limit?: number;
  /** All bars are ours; by default only the first. */
  readonly areAllOurs?: boolean;
}

export function plot({ title, unit, bars, limit, areAllOurs = false }: Drawn): string {
  const labels = Math.max(LABELS, ...bars.map(({ label }) => label.length * LETTER + 6));
  const width = Math.max(WIDTH, unit.length * LETTER, labels + WIDTH - LABELS);
  const most = Math.max(limit ?? 0, ...bars.map(({ value }) => spreadOf(value).max));
  const x = (value: number): number => Math.round(labels + (value / most) * (width - labels - VALUES));
  const height = (bars.length + 1) * ROW + 4;
  const rows = bars.flatMap(({ label, value }, i) => {
    const { median, min, max } = spreadOf(value);
    const [top, middle] = [(i + 1) * ROW + 5, (i + 1) * ROW + 12];
    return [
      `<text x="${labels - 6}" y="${middle + 4}" text-anchor="end">${escaped(label)}</text>`,
      `<rect x="${labels}" y="${top}" width="${Math.max(1, x(median) - labels)}" height="14" fill="${i === 0 || areAllOurs ? OURS : THEIRS}"/>`,
      ...(max > min ? [`<path d="M${x(min)} ${middle}H${x(max)}" stroke="${TEXT}" stroke-width="2"/>`] : []),
      `<text x="${x(max) + 6}" y="${middle + 4}">${escaped(cellText(median))}</text>`,
    ];
  });
  const line = limit === undefined ? [] : [`<path d="M${x(limit)} ${ROW + 1}V${height - 1}" stroke="${TEXT}" stroke-dasharray="3 2"/>`];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" role="img" font-family="sans-serif" font-size="12" fill="${TEXT}">`,
    `<title>${escaped(title)}</title>`,
    `<text x="2" y="14">${escaped(unit)}</text>`,
    ...rows,
    ...line,
    "</svg>",
    "",
  ].join("\n");
}
