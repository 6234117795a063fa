/** Manages the policy in force on this node: its versions, staging, rollback, and the last readable version (semantics.md, Policy). */
import { firstIndex } from "../../lib/bisect.ts";
import { sha256Hex } from "../../lib/crypto.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { Hlc } from "../../lib/hlc.ts";
import { diffSlices } from "../set/diff.ts";
import { canonicalSlices, edgesOf, type PolicySet } from "../set/rules.ts";
import { validate } from "../set/validation.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../set/verdict.ts";
import { decodeFacts, decodeVersion } from "./codec.ts";
import {
  checkStage,
  isStaged,
  MAX_LINEAGE,
  NO_PLACE,
  type PolicyVersion,
  type RolloutStage,
  type VersionFacts,
  type VersionPlace,
  type VersionRow,
} from "./version.ts";

export interface EngineOptions {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Maximum number of versions that are kept; at least 2. */
  readonly maxVersions: number;
  /** Maximum size of all kept versions, in encoded bytes. The oldest versions are dropped first, but never the newest two. */
  readonly maxBytes: number;
}

export const HISTORY_BOUNDS = { maxVersions: 100, maxBytes: 64 * 1024 * 1024 } as const;

/** How, why and by whom a version is put in force. */
export interface ApplyTerms {
  /** The newest version that the author knows; 0 accepts any newest version. */
  readonly expectedNumber: number;
  readonly stage: RolloutStage | undefined;
  readonly principal: string;
  readonly reason: string;
  readonly changeTicket: string;
  /**
   * Whether this is the initial version of a node that knows no other version, except perhaps an earlier initial version. Every version applied on
   * another node has precedence over an initial version.
   */
  readonly isInitial?: boolean;
}

export interface PolicyStatus {
  /** Whether a policy is configured. */
  readonly isEnabled: boolean;
  /** The version in force on this node. Undefined if there is none. */
  readonly inForce: VersionFacts | undefined;
  /** The newest version. If its stage excludes this node, this version is not in force here. */
  readonly newest: VersionFacts | undefined;
  /** A fault that requires an operator's attention, such as a version that cannot be read. Empty if there is none. */
  readonly degraded: string;
  /** Describes how the newest version superseded another version that was applied on another node at the same time. Otherwise empty. */
  readonly conflict: string;
}

/** The result of adopting a version from another node. */
export interface AdoptionResult {
  /**
   * The previous newest version, if the adopted version is not based on that version: two authors changed the policy without knowing of each other's
   * change.
   */
  readonly superseded: VersionFacts | undefined;
  /** Numbers of versions that are no longer kept. */
  readonly dropped: readonly number[];
  /** Superseded versions that are no longer kept. */
  readonly droppedLosers: readonly VersionFacts[];
}

/** A version in the history. */
export interface HistoryItem {
  readonly number: number;
  readonly facts: VersionFacts | undefined;
  readonly fault: string;
  /** Whether the version's number was reassigned to another version, which was applied on another node at the same time. */
  readonly isSuperseded: boolean;
}

interface KeptVersion {
  readonly number: number;
  readonly sizeBytes: number;
  /** Undefined if the version cannot be read. */
  readonly facts: VersionFacts | undefined;
  readonly fault: string;
}

const MAX_CHANGES = 200;
/** Maximum number of superseded versions that are kept. If there are more, the oldest are dropped. */
const MAX_LOSERS = 10;

/** Used if a policy is configured but cannot be read. */
const DENY_ALL: PolicySet = { version: "", defaultAllow: false, rules: [] };

/**
 * Sans-IO. A change has three steps: `stamped` creates the version, the calling code stores it if its number is free (the loser of a race gets
 * `version_conflict`), and `commit` puts it in force.
 */
export class PolicyEngine {
  readonly #options: EngineOptions;
  #policy: Policy = NO_POLICY;
  #inForce: PolicyVersion | undefined;
  /** The newest version that can be read. */
  #newest: PolicyVersion | undefined;
  /** The kept versions, in ascending order of number. */
  readonly #kept: KeptVersion[] = [];
  /**
   * Superseded versions, whose numbers were reassigned to other versions that were applied on another node at the same time, oldest
   * first. They are kept so that no change is lost without notice.
   */
  #losers: VersionFacts[] = [];
  #conflict = "";
  /** The fault in the kept versions. Empty if there is none. */
  #fault = "";
  /** The fault in the policy file. Empty if there is none. */
  #fileFault = "";
  #edges: readonly number[] = [];
  /**
   * Whether the cluster may have a policy that this node does not know yet. If so, and if the node has no policy of its own, the node shows nothing
   * until it knows whether there is one.
   */
  isAwaiting = false;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  /** The compiled policy in force. The object remains the same until another version is in force. */
  get policy(): Policy {
    return this.isAwaiting && this.#policy === NO_POLICY ? PENDING_POLICY : this.#policy;
  }

  get inForce(): PolicyVersion | undefined {
    return this.#inForce;
  }

  get newest(): PolicyVersion | undefined {
    return this.#newest;
  }

  /** The number of the newest version, even if that version cannot be read or is not in force here; 0 if there is no version. */
  get newestNumber(): number {
    return this.#kept.at(-1)?.number ?? 0;
  }

  /** The newest version, if it is this node's initial version. */
  get beginning(): PolicyVersion | undefined {
    const newest = this.#newest;
    return this.newestNumber === 1 && newest?.hlc === 0 && newest.nodeId === this.#options.nodeId ? newest : undefined;
  }

  get status(): PolicyStatus {
    return {
      isEnabled: this.#policy.set !== undefined,
      inForce: this.#inForce,
      newest: this.#kept.at(-1)?.facts,
      degraded: this.#degraded(),
      conflict: this.#conflict,
    };
  }

  /** The position of the newest readable version, for comparison with versions of other nodes. */
  get place(): VersionPlace {
    return this.#newest ?? NO_PLACE;
  }

  /** Whether all requests are denied because no policy can be read. */
  get isDenied(): boolean {
    return this.#policy.set === DENY_ALL;
  }

  /**
   * Returns the kept versions, newest first. Each superseded version follows the version that now has its number. If a version cannot be read, it has
   * no facts.
   */
  history(): readonly HistoryItem[] {
    const losers = this.#losers.toReversed().map((facts) => ({ number: facts.number, facts, fault: "", isSuperseded: true }));
    const kept = this.#kept.toReversed().map(({ number, facts, fault }) => ({ number, facts, fault, isSuperseded: false }));
    return losers.length === 0 ? kept : [...kept, ...losers].toSorted((a, b) => b.number - a.number);
  }

  /**
   * Restores the versions from the store at startup. The newest readable version that includes this node is put in force. `status.degraded` lists
   * newer versions that cannot be read. If no version can be read, all requests are denied.
   */
  restore(rows: readonly VersionRow[], losers: readonly VersionFacts[] = []): void {
    this.#kept.length = 0;
    this.#fault = "";
    this.#newest = undefined;
    this.#enforce(undefined);
    const faults: string[] = [];
    let chosen: PolicyVersion | undefined;
    for (const { number, bytes } of rows.toSorted((a, b) => b.number - a.number)) {
      const facts = decodeFacts(bytes);
      let fault = facts.ok ? "" : facts.fault;
      const isTaken = facts.ok && chosen === undefined && isStaged(facts.version, this.#options);
      if (isTaken || (facts.ok && this.#newest === undefined)) {
        const read = readVersion(number, bytes);
        if (!read.ok) fault = read.fault;
        else {
          this.#newest ??= read.version;
          if (isTaken) chosen = read.version;
        }
      }
      if (fault !== "" && chosen === undefined) faults.push(`version ${number} cannot be read: ${fault}`);
      this.#kept.push({ number, sizeBytes: bytes.length, facts: facts.ok && fault === "" ? facts.version : undefined, fault });
    }
    this.#kept.reverse();
    this.#restoreLosers(losers);
    if (chosen === undefined && this.#newest !== undefined && this.#isOnlyChoice(this.#newest)) chosen = this.#newest;
    this.#enforce(chosen);
    if (faults.length === 0) return;
    if (chosen !== undefined) this.#fault = listed(faults);
    else this.denyAll(listed(faults));
  }

  #restoreLosers(losers: readonly VersionFacts[]): void {
    this.#losers = losers.toSorted((a, b) => a.number - b.number || a.hlc - b.hlc);
    const newest = this.#newest;
    // If the process crashes between the two steps of adopting a version, the winning version remains among the superseded versions.
    const last = this.#losers.findLast(({ number, checksum }) => number === newest?.number && checksum !== newest.checksum);
    this.#conflict = last === undefined || newest === undefined ? "" : conflictText(last, newest);
  }

  /**
   * Creates the version that would put a set in force. The set must have passed `validate` before. Yields between slices of work. Throws
   * `version_conflict` if `expectedNumber` is not the newest number, and `invalid_argument` for a stage that does not include any node.
   */
  *stamped(set: PolicySet, terms: ApplyTerms, wallMs: number): Generator<void, PolicyVersion> {
    const { expectedNumber, stage, principal, reason, changeTicket } = terms;
    const newest = this.newestNumber;
    if (expectedNumber !== 0 && expectedNumber !== newest) throw conflict(newest, expectedNumber);
    checkStage(stage);
    const changes = yield* diffSlices(this.#newest?.set, set);
    yield;
    const canonical = yield* canonicalSlices(set);
    yield;
    const isInitial = terms.isInitial === true;
    const before = isInitial ? undefined : this.#newest;
    return {
      number: isInitial ? 1 : newest + 1,
      hlc: isInitial ? 0 : new Hlc().stampEnd(before?.hlc ?? 0, wallMs),
      nodeId: this.#options.nodeId,
      version: set.version,
      defaultAllow: set.defaultAllow,
      ruleCount: set.rules.length,
      appliedWallMs: wallMs,
      principal,
      reason,
      changeTicket,
      checksum: sha256Hex(canonical),
      lineage: before === undefined ? [] : [{ number: before.number, checksum: before.checksum }, ...before.lineage].slice(0, MAX_LINEAGE),
      stage,
      changes: changes.slice(0, MAX_CHANGES),
      changesLeftOut: Math.max(0, changes.length - MAX_CHANGES),
      set,
    };
  }

  /** Returns the number of the version that a rollback restores: `toNumber`, or if that is 0, the version before the newest. Throws `not_found`. */
  rollbackTarget(toNumber: number): Pick<KeptVersion, "number" | "sizeBytes"> {
    const target = toNumber === 0 ? this.#kept.at(-2) : this.#kept.find(({ number }) => number === toNumber);
    if (target !== undefined) return target;
    const kept = this.#kept.length === 0 ? "there are no versions" : `versions ${this.#kept[0]?.number} to ${this.newestNumber} are kept`;
    throw new WaymarkError("not_found", `no policy version ${toNumber === 0 ? "before the newest" : toNumber} exists: ${kept}`);
  }

  /**
   * Makes a stored version the newest version, and puts it in force if its stage includes this node. Returns the numbers of versions that are no
   * longer kept, which the caller may remove. Throws `version_conflict` if another version was committed first.
   */
  commit(version: PolicyVersion, sizeBytes: number): readonly number[] {
    if (version.number <= this.newestNumber) throw conflict(this.newestNumber, version.number - 1);
    this.#kept.push({ number: version.number, sizeBytes, facts: factsOf(version), fault: "" });
    this.#conflict = "";
    this.#settle(version);
    return this.#trim();
  }

  /**
   * Like `commit`, but for a version that replaces `beginning` and has its number. Throws `version_conflict` if `beginning` is no longer the
   * newest version.
   */
  beginAgain(version: PolicyVersion, sizeBytes: number): void {
    if (this.beginning === undefined) throw conflict(this.newestNumber, 0);
    this.#kept.length = 0;
    this.commit(version, sizeBytes);
  }

  /**
   * Adopts a stored version from another node that is newer than `place` (`isNewer`). The version is in force if its stage includes this node, or if
   * no other version is in force.
   */
  take(version: PolicyVersion, sizeBytes: number): AdoptionResult {
    const before = this.#newest;
    const isParted = before !== undefined && !follows(version, before);
    const index = this.#kept.findIndex(({ number }) => number === version.number);
    if (index >= 0) this.#kept.splice(index, 1);
    this.#kept.push({ number: version.number, sizeBytes, facts: factsOf(version), fault: "" });
    this.#kept.sort((a, b) => a.number - b.number);
    this.#conflict = isParted ? conflictText(before, version) : "";
    let droppedLosers: readonly VersionFacts[] = [];
    if (isParted && before.number === version.number) {
      this.#losers.push(factsOf(before));
      droppedLosers = this.#losers.splice(0, Math.max(0, this.#losers.length - MAX_LOSERS));
    }
    this.#settle(version);
    return { superseded: isParted ? before : undefined, dropped: this.#trim(), droppedLosers };
  }

  /** Like `commit`, but for a version in the store that this engine did not know, for example because the store's answer was lost. */
  adopt({ number, bytes }: VersionRow): readonly number[] {
    if (number <= this.newestNumber) return [];
    const read = readVersion(number, bytes);
    if (read.ok) return this.commit(read.version, bytes.length);
    this.#kept.push({ number, sizeBytes: bytes.length, facts: undefined, fault: read.fault });
    this.#fault = `version ${number} cannot be read: ${read.fault}`;
    if (this.#policy.set === undefined) this.denyAll(this.#fault);
    return this.#trim();
  }

  /**
   * Records the fault in the policy file; an empty string means that the file could be read. A version that is in force remains in force. If no
   * version is in force, a fault causes everything to be denied.
   */
  fileRead(fault: string): void {
    this.#fileFault = fault;
    if (fault !== "" && this.#policy.set === undefined) this.denyAll("");
  }

  /** Denies everything until there is a readable policy. */
  denyAll(fault: string): void {
    this.#inForce = undefined;
    this.#edges = [];
    // No version has the number 0, so no cursor that was issued under a version is treated as current.
    this.#policy = new Policy(DENY_ALL, 0);
    this.#fault = fault;
  }

  #settle(version: PolicyVersion): void {
    this.#newest = version;
    if (!isStaged(version, this.#options) && !this.#isOnlyChoice(version)) return;
    this.#enforce(version);
    this.#fault = "";
  }

  /**
   * Whether this node must use another node's version because it has no other choice. If a node has no version in force, it uses the received version
   * regardless of its stage, so that it does not show entries that other nodes hide.
   */
  #isOnlyChoice({ nodeId }: PolicyVersion): boolean {
    return this.#inForce === undefined && nodeId !== "" && nodeId !== this.#options.nodeId;
  }

  /** Returns the next time at which a cutover window of any rule opens or closes. Cost: a binary search. */
  nextEdgeWallMs(wallMs: number): number | undefined {
    const edges = this.#edges;
    return edges[firstIndex(edges.length, (index) => (edges[index] ?? 0) > wallMs)];
  }

  #degraded(): string {
    const faults = [this.#fault, this.#fileFault].filter((fault) => fault !== "");
    if (faults.length === 0) return "";
    return `${faults.join("; ")}; ${this.isDenied ? "all requests are denied" : `version ${this.#policy.number} is in force`}`;
  }

  #enforce(version: PolicyVersion | undefined): void {
    this.#inForce = version;
    this.#policy = version === undefined ? NO_POLICY : new Policy(version.set, version.number, version);
    this.#edges = version === undefined ? [] : edgesOf(version.set);
  }

  #trim(): readonly number[] {
    const { maxVersions, maxBytes } = this.#options;
    const removed: number[] = [];
    let bytes = this.#kept.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    while (this.#kept.length > 2 && (this.#kept.length > maxVersions || bytes > maxBytes)) {
      // If a stage excludes this node, the node still needs the version that it has in force.
      const index = this.#kept.findIndex(({ number }) => number !== this.#inForce?.number);
      const [oldest] = this.#kept.splice(index, 1);
      if (oldest === undefined) break;
      bytes -= oldest.sizeBytes;
      removed.push(oldest.number);
    }
    return removed;
  }
}

/** Returns a `version_conflict` error that contains both numbers. */
export function conflict(newest: number, expected: number): WaymarkError {
  return new WaymarkError(
    "version_conflict",
    `the newest policy version is ${newest}, but the request expects ${expected}: read the newest version and try again`,
    {
      metadata: { newest: `${newest}`, expected: `${expected}` },
    },
  );
}

/**
 * Reads the version with this number. Fails if the version's set has errors; if `isChecked` is false, the caller must check the set with
 * `validateSlices`.
 */
export function readVersion(number: number, bytes: Uint8Array, isChecked = true): ReturnType<typeof decodeVersion> {
  const read = decodeVersion(bytes);
  if (!read.ok) return read;
  if (read.version.number !== number) return { ok: false, fault: `it contains version ${read.version.number}` };
  if (!isChecked) return read;
  const first = validate(read.version.set).find(({ severity }) => severity === "error");
  return first === undefined ? read : { ok: false, fault: `${first.path}: ${first.message}` };
}

function factsOf({ set: _set, ...facts }: PolicyVersion): VersionFacts {
  return facts;
}

function conflictText(loser: VersionFacts, winner: VersionFacts): string {
  const by = ({ principal, nodeId }: VersionFacts): string => `${principal} on ${nodeId === "" ? "an unknown node" : nodeId}`;
  return `version ${loser.number} of ${by(loser)} was superseded by version ${winner.number} of ${by(winner)}, which is not based on it`;
}

/** Whether the author of `version` knew `before`, judging by the lineage of `version`. */
function follows(version: VersionFacts, before: VersionFacts): boolean {
  if (version.number === before.number) return version.checksum === before.checksum;
  const known = version.lineage.find(({ number }) => number === before.number);
  return known === undefined || known.checksum === before.checksum;
}

function listed(faults: readonly string[]): string {
  return faults.length <= 3 ? faults.join("; ") : `${faults.slice(0, 3).join("; ")}; and ${faults.length - 3} more`;
}
