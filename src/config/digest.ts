/** Digests of the settings that should be the same on all nodes of a cluster, so that nodes can detect a difference without exchanging settings. */
import { sha256Hex } from "../lib/crypto.ts";
import type { SettingField } from "./field.ts";
import { SETTING_ROWS, type SettingRow, type Settings, valueOfRow } from "./settings.ts";

const DIGEST_DIGITS = 16;

/**
 * The digest of one setting: SHA-256 of its value as canonical JSON, in 16 hexadecimal digits. Secrets are left out, because guesses could be
 * compared with their digest. Empty if the value is absent, or if nothing else remains.
 */
export function settingDigest(settings: Settings, row: SettingRow): string {
  const { setting } = row;
  const value = valueOfRow(settings, row);
  const shared = sharedPart(value === undefined || setting.fields === undefined ? value : setting.shown?.(value), setting);
  return shared === undefined ? "" : shortDigest(shared);
}

/** The digest of all settings: SHA-256 of their paths and digests, in 16 hexadecimal digits. */
export function configDigest(settings: Settings): string {
  const digests = SETTING_ROWS.map((row) => [row.path, settingDigest(settings, row)] as const).filter(([, digest]) => digest !== "");
  return shortDigest(sorted(digests));
}

function sorted(fields: readonly (readonly [string, unknown])[]): object {
  return Object.fromEntries(fields.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** JSON leaves out undefined fields. */
function shortDigest(canonical: unknown): string {
  return sha256Hex(JSON.stringify(canonical)).slice(0, DIGEST_DIGITS);
}

/** Returns the parts of a value that should be equal on all nodes, in the form of a file. It omits secrets, and fields that differ between nodes. */
function sharedPart(shown: unknown, { secret, perNode, fields }: Pick<SettingField<unknown>, "fields" | "perNode" | "secret">): unknown {
  if (secret === true || perNode === true) return undefined;
  if (fields === undefined || typeof shown !== "object" || shown === null) return shown;
  if (Array.isArray(shown)) return shown.map((table) => sharedPart(table, { fields }));
  return sorted(Object.entries(shown).map(([key, value]) => [key, sharedPart(value, fields[key]?.setting ?? {})]));
}
