/**
 * Encodes a policy version as bytes, for the store and for other nodes: a hash, the facts, and the set. A version that comes from another node is not
 * trusted.
 */
import { sha256Hex } from "../../lib/crypto.ts";
import { checksumOf, type PolicySet } from "../set/rules.ts";
import { MAX_WALL_MS, MIN_WALL_MS } from "../set/validation.ts";
import type { PolicyVersion, VersionFacts } from "./version.ts";

/** A decoded version or only its facts, or the reason why the bytes cannot be read. */
export type ReadVersion<T> = { readonly ok: true; readonly version: T } | { readonly ok: false; readonly fault: string };

/** Format 2 added `hlc`, `nodeId` and `lineage`. */
const FORMAT = 2;
const OLDEST_FORMAT = 1;
const NEWLINE = 10;
const HASH_LENGTH = 64;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true });

/** Returns three lines: a hash of the other two lines, the facts, and the set. Cost: 10,000 rules take about 20 ms. */
export function encodeVersion({ set, ...facts }: PolicyVersion): Uint8Array {
  const body = ENCODER.encode(`${JSON.stringify({ format: FORMAT, ...facts })}\n${JSON.stringify(set)}\n`);
  const hash = ENCODER.encode(`${sha256Hex(body)}\n`);
  const bytes = new Uint8Array(hash.length + body.length);
  bytes.set(hash);
  bytes.set(body, hash.length);
  return bytes;
}

/** Decodes only the facts. Cost: one hash over the bytes. */
export function decodeFacts(bytes: Uint8Array): ReadVersion<VersionFacts> {
  const lines = readLines(bytes);
  return lines.ok ? { ok: true, version: lines.version.facts } : lines;
}

/** Decodes the whole version. */
export function decodeVersion(bytes: Uint8Array): ReadVersion<PolicyVersion> {
  const lines = readLines(bytes);
  if (!lines.ok) return lines;
  const { facts, setText } = lines.version;
  const set = parsed(setText);
  if (!isSet(set)) return { ok: false, fault: "its rules are not a valid policy set" };
  if (checksumOf(set) !== facts.checksum) return { ok: false, fault: "its checksum does not match its rules" };
  return { ok: true, version: { ...facts, set } };
}

function readLines(bytes: Uint8Array): ReadVersion<{ readonly facts: VersionFacts; readonly setText: string }> {
  if (bytes.length <= HASH_LENGTH || bytes[HASH_LENGTH] !== NEWLINE) return { ok: false, fault: "it is truncated or not a policy version" };
  const body = bytes.subarray(HASH_LENGTH + 1);
  if (String.fromCharCode(...bytes.subarray(0, HASH_LENGTH)) !== sha256Hex(body))
    return { ok: false, fault: "it was modified or truncated" };
  const end = body.indexOf(NEWLINE);
  const [factsText, setText] = [textOf(body.subarray(0, Math.max(0, end))), textOf(body.subarray(end + 1))];
  const { format, ...said } = parsed(factsText) as Readonly<Record<string, unknown>> & { readonly format: unknown };
  if (typeof format !== "number" || setText === undefined) return { ok: false, fault: "it is not a valid policy version" };
  if (format > FORMAT || format < OLDEST_FORMAT)
    return { ok: false, fault: `its format ${format} is not supported by this version of waymark` };
  const facts = format === OLDEST_FORMAT ? { ...said, hlc: 0, nodeId: "", lineage: [] } : said;
  if (!isFacts(facts)) return { ok: false, fault: "it is not a valid policy version" };
  // JSON cannot express undefined, so a missing stage is added.
  return { ok: true, version: { facts: { ...facts, stage: facts.stage }, setText } };
}

/** Returns the text. Undefined if the bytes are not UTF-8. The hash of such bytes is correct, so another node encoded them in this way. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return DECODER.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Parses JSON. Returns an empty object for a string that is not JSON. */
function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "") ?? {};
  } catch {
    return {};
  }
}

type EncodedFields = Readonly<Record<string, unknown>>;
type FieldCheck = (value: unknown) => boolean;

const isText: FieldCheck = (value) => typeof value === "string";
const isFlag: FieldCheck = (value) => typeof value === "boolean";
const isWhole: FieldCheck = (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
const within =
  (min: number, max: number): FieldCheck =>
  (value) =>
    Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
const isNumber: FieldCheck = (value) => typeof value === "number" && Number.isFinite(value);
const listOf =
  (check: FieldCheck): FieldCheck =>
  (value) =>
    Array.isArray(value) && value.every(check);
const orNothing =
  (check: FieldCheck): FieldCheck =>
  (value) =>
    value === undefined || check(value);
const shaped =
  (fields: Readonly<Record<string, FieldCheck>>): FieldCheck =>
  (value) =>
    isFields(value) && Object.entries(fields).every(([name, check]) => check(value[name]));

const isTexts = listOf(isText);
const isRule = shaped({
  pattern: isText,
  owners: isTexts,
  visibility: isTexts,
  visibilityTenants: isTexts,
  exportScopes: listOf(isNumber),
  allowSummaries: isFlag,
  cutoverWindows: listOf(
    shaped({ startsWallMs: isNumber, endsWallMs: orNothing(isNumber), exportScopes: listOf(isNumber), allowSummaries: orNothing(isFlag) }),
  ),
  policyVersion: isText,
  priority: isNumber,
  quota: shaped({ entries: isNumber, watches: isNumber, bytes: isNumber }),
});
const isSetShape = shaped({ version: isText, defaultAllow: isFlag, rules: listOf(isRule) });
const isPercent = within(1, 100);
const isStage: FieldCheck = (value) =>
  isFields(value) && (value["by"] === "percent" ? isPercent(value["percent"]) : value["by"] === "clusters" && isTexts(value["clusterIds"]));
const isFactsShape = shaped({
  number: isWhole,
  hlc: isWhole,
  nodeId: isText,
  version: isText,
  defaultAllow: isFlag,
  ruleCount: within(0, 2 ** 32 - 1),
  appliedWallMs: within(MIN_WALL_MS, MAX_WALL_MS),
  principal: isText,
  reason: isText,
  changeTicket: isText,
  checksum: isText,
  lineage: listOf(shaped({ number: isWhole, checksum: isText })),
  stage: orNothing(isStage),
  changes: listOf(shaped({ pattern: isText, change: isText, fields: listOf(shaped({ field: isText, removed: isTexts, added: isTexts })) })),
  changesLeftOut: isWhole,
});

/** Whether all fields of a version's facts exist and have the right types, so that they can be returned in an answer about the policy. */
function isFacts(value: unknown): value is VersionFacts {
  return isFactsShape(value);
}

/** Whether all fields of a set and of its rules exist and have the right types. `validate` checks the values of the fields. */
function isSet(value: unknown): value is PolicySet {
  return isSetShape(value);
}

function isFields(value: unknown): value is EncodedFields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
