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
  const shared = sharedPart(valueOfRow(settings, row), row.setting);
  return shared === undefined ? "" : shortDigest(shared);
}

/** The digest of all settings: SHA-256 of their paths and digests, in 16 hexadecimal digits. */
export function configDigest(settings: Settings): string {
  const digests = SETTING_ROWS.map((row) => [row.path, settingDigest(settings, row)] as const).filter(([, digest]) => digest !== "");
  return shortDigest(Object.fromEntries(digests.toSorted(([a], [b]) => (a < b ? -1 : 1))));
}

function shortDigest(canonical: unknown): string {
  return sha256Hex(JSON.stringify(canonical)).slice(0, DIGEST_DIGITS);
}

/** The part of a value without secrets and without fields that differ between nodes. Undefined if there is none. */
function sharedPart(value: unknown, setting: SettingField<unknown>): unknown {
  const { secret, perNode, fields } = setting;
  if (value === undefined || secret === true || perNode === true) return undefined;
  return fields === undefined ? value : sharedFields(setting.shown?.(value), fields);
}

/** `shown` is a table, or a list of tables, in the form that is used in a file. */
function sharedFields(shown: unknown, fields: NonNullable<SettingField<unknown>["fields"]>): unknown {
  if (Array.isArray(shown)) return shown.map((table) => sharedFields(table, fields));
  if (typeof shown !== "object" || shown === null) return shown;
  const kept = Object.entries(shown).flatMap(([key, value]: [string, unknown]) => {
    const { secret, perNode, fields: inner } = fields[key]?.setting ?? {};
    if (secret === true || perNode === true) return [];
    return [[key, inner === undefined ? value : sharedFields(value, inner)] as const];
  });
  return Object.fromEntries(kept.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
