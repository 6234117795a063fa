/** A version of the policy as it is kept: its set, who put it in force and why. The bytes carry their own hash. */
import { sha256 } from "../../lib/crypto.ts";
import { canonicalText, checksumOf } from "../set/text.ts";
import type { PolicyVersion, VersionFacts } from "./facts.ts";
import { isFacts, isSet } from "./shape.ts";

/** Ancestors a version names: two histories that parted further back are not told apart any more. */
export const MAX_LINEAGE = 32;

/** What a store row says: its facts and, asked for, its set; or why it cannot be read. */
export type ReadVersion<T> = { readonly ok: true; readonly version: T } | { readonly ok: false; readonly fault: string };

/** 2 brought `hlc`, `nodeId` and `lineage`. */
const FORMAT = 2;
const OLDEST_FORMAT = 1;
const NEWLINE = 10;
const HASH_LENGTH = 64;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true });

/** A hash of all that follows, the facts, the set; a line each. Cost: 10,000 rules in some 20 ms. */
export function encodeVersion({ set, ...facts }: PolicyVersion): Uint8Array {
  const body = ENCODER.encode(`${JSON.stringify({ format: FORMAT, ...facts })}\n${JSON.stringify(set)}\n`);
  const hash = ENCODER.encode(`${hexOf(body)}\n`);
  const bytes = new Uint8Array(hash.length + body.length);
  bytes.set(hash);
  bytes.set(body, hash.length);
  return bytes;
}

/** The facts of encoded bytes. Cost: a hash over them. */
export function decodeFacts(bytes: Uint8Array): ReadVersion<VersionFacts> {
  const lines = readLines(bytes);
  if (!lines.ok) return lines;
  return { ok: true, version: lines.version.facts };
}

/** The whole version. */
export function decodeVersion(bytes: Uint8Array): ReadVersion<PolicyVersion> {
  const lines = readLines(bytes);
  if (!lines.ok) return lines;
  const { facts, setText } = lines.version;
  const set = parsed(setText);
  if (!isSet(set)) return { ok: false, fault: "its rules are not of the form of a policy" };
  if (checksumOf(canonicalText(set)) !== facts.checksum) return { ok: false, fault: "its checksum is not that of its rules" };
  return { ok: true, version: { ...facts, set } };
}

interface Lines {
  readonly facts: VersionFacts;
  readonly setText: string;
}

function readLines(bytes: Uint8Array): ReadVersion<Lines> {
  if (bytes.length <= HASH_LENGTH || bytes[HASH_LENGTH] !== NEWLINE) return { ok: false, fault: "it is cut off or no policy version" };
  const body = bytes.subarray(HASH_LENGTH + 1);
  if (latin1(bytes.subarray(0, HASH_LENGTH)) !== hexOf(body)) return { ok: false, fault: "its bytes were changed or lost" };
  const end = body.indexOf(NEWLINE);
  const [factsText, setText] = [textOf(body.subarray(0, Math.max(0, end))), textOf(body.subarray(end + 1))];
  const { format, ...said } = parsed(factsText) as Readonly<Record<string, unknown>> & { readonly format: unknown };
  if (typeof format !== "number" || setText === undefined) return { ok: false, fault: "it is not of the form of a policy version" };
  if (format > FORMAT || format < OLDEST_FORMAT)
    return { ok: false, fault: `it has the format ${format}, which this version of waymark does not know` };
  const facts = format === OLDEST_FORMAT ? { ...said, hlc: 0, nodeId: "", lineage: [] } : said;
  if (!isFacts(facts)) return { ok: false, fault: "it is not of the form of a policy version" };
  // JSON has no undefined: what was left out comes back.
  return { ok: true, version: { facts: { ...facts, stage: facts.stage }, setText } };
}

/** Undefined: not UTF-8. The hash holds, so only another node may have sent it. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return DECODER.decode(bytes);
  } catch {
    return undefined;
  }
}

/** An empty object for what is not JSON. */
function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "") ?? {};
  } catch {
    return {};
  }
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(sha256(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
