/** Durations: their units, and the text in which users write them. */

/** The longest delay that a Node timer supports. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

const DURATION_UNITS = { ms: 1, s: 1000, m: MINUTE_MS, h: HOUR_MS, d: DAY_MS } as const;

/** Upper bound of a known age. An unknown age is measured from 1970 and is therefore larger, because no node has run for this long. */
const MAX_AGE_MS = 20 * 365 * DAY_MS;

export function isKnownAge(ageMs: number): boolean {
  return ageMs < MAX_AGE_MS;
}

/** Number of milliseconds in a text such as `500ms`, `1.5s`, `10m`, `24h`, or `7d`. Undefined for other text. */
export function parseDurationMs(written: string): number | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(written);
  if (!match) return written === "0" ? 0 : undefined;
  const unit = Object.entries(DURATION_UNITS).find(([name]) => name === match[2]);
  return unit === undefined ? undefined : Math.round(Number(match[1]) * unit[1]);
}

/** The shortest text that represents a duration exactly. */
export function durationText(lengthMs: number): string {
  if (lengthMs === 0) return "0s";
  const exact = Object.entries(DURATION_UNITS).findLast(([, unitMs]) => lengthMs % unitMs === 0);
  return exact === undefined ? `${lengthMs}ms` : `${lengthMs / exact[1]}${exact[0]}`;
}

/** An age in whole seconds. */
export function ageText(ageMs: number): string {
  return durationText(Math.round(ageMs / 1000) * 1000);
}
