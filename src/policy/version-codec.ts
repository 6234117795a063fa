/** A version of the policy as it is kept: its set, who put it in force and why. The bytes carry their own hash. */
import { sha256 } from "../lib/crypto.ts";
import type { RuleChange } from "./policy-diff.ts";
import { canonicalText, checksumOf } from "./policy-text.ts";
import type { PolicySet } from "./rules.ts";

/** Where a version is put in force first. */
export type Stage =
  /** On this share of the nodes, 1 to 100. */
  { readonly by: "percent"; readonly percent: number } | { readonly by: "clusters"; readonly clusterIds: readonly string[] };

/** What is known of a version without its rules. */
export interface VersionFacts {
  /** 1, 2, 3, …; assigned by the server, never used twice. */
  readonly number: number;
  /** The author's label. */
  readonly version: string;
  readonly defaultAllow: boolean;
  readonly ruleCount: number;
  readonly appliedWallMs: number;
  readonly principal: string;
  readonly reason: string;
  readonly changeTicket: string;
  /** SHA-256 of the set's canonical text, in lower-case hex. */
  readonly checksum: string;
  /** Undefined: everywhere. */
  readonly stage: Stage | undefined;
  /** How it differs from the version before; at most 200 rules. */
  readonly changes: readonly RuleChange[];
  readonly changesLeftOut: number;
}

export interface PolicyVersion extends VersionFacts {
  readonly set: PolicySet;
}

/** What a store row says: its facts and, asked for, its set; or why it cannot be read. */
export type ReadVersion<T> = { readonly ok: true; readonly version: T } | { readonly ok: false; readonly fault: string };

const FORMAT = 1;
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
  // The hash has shown that these are the bytes `encodeVersion` made of a checked set.
  const set = JSON.parse(setText) as PolicySet;
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
  const { format, ...facts } = JSON.parse(DECODER.decode(body.subarray(0, end))) as VersionFacts & { readonly format: number };
  if (format !== FORMAT) return { ok: false, fault: `it has the format ${format}, which this version of waymark does not know` };
  // JSON has no undefined: what was left out comes back.
  return { ok: true, version: { facts: { ...facts, stage: facts.stage }, setText: DECODER.decode(body.subarray(end + 1)) } };
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(sha256(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
