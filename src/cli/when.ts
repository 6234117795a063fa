/** Instants as people write and read them. */
import { type Timestamp, timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { parseDurationMs } from "../lib/duration.ts";
import { UsageError } from "./exit.ts";
import type { Flags } from "./flags.ts";

const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/;

/** RFC 3339 in UTC; empty when absent. */
export function timeText(time: Timestamp | undefined): string {
  return time === undefined ? "" : timestampDate(time).toISOString();
}

/** A time such as `2026-01-31T12:00:00Z`. */
export function instantFlag(flags: Flags, name: string): Timestamp | undefined {
  const text = flags.text(name);
  if (text === undefined) return undefined;
  const wallMs = parseInstantMs(text);
  if (wallMs === undefined) throw new UsageError(`--${name} ${text}: not a time such as 2026-01-31T12:00:00Z`);
  return timestampFromMs(wallMs);
}

/** A time, or a duration before now such as `1h`. */
export function pastFlag(flags: Flags, name: string, nowWallMs: number): Timestamp | undefined {
  const text = flags.text(name);
  if (text === undefined) return undefined;
  const agoMs = parseDurationMs(text);
  const wallMs = agoMs === undefined ? parseInstantMs(text) : nowWallMs - agoMs;
  if (wallMs === undefined)
    throw new UsageError(`--${name} ${text}: not a time such as 2026-01-31T12:00:00Z, nor a duration before now such as 1h`);
  return timestampFromMs(wallMs);
}

function parseInstantMs(text: string): number | undefined {
  const wallMs = RFC_3339.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(wallMs) ? undefined : wallMs;
}
