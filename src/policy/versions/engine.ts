/** The policy in force at this node: versions one after another, staging, rollback, the last known good (semantics.md, Policy). */
import { WaymarkError } from "../../lib/errors.ts";
import { Hlc } from "../../lib/hlc.ts";
import { edgesOf } from "../set/cutover.ts";
import { diffSlices } from "../set/diff.ts";
import { validate } from "../set/policy-set.ts";
import type { PolicySet } from "../set/rules.ts";
import { canonicalSlices, checksumOf } from "../set/text.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../set/verdict.ts";
import { decodeFacts, decodeVersion, MAX_LINEAGE } from "./codec.ts";
import type { PolicyVersion, Stage, VersionFacts, VersionRow } from "./facts.ts";
import { NO_PLACE, type VersionPlace } from "./order.ts";
import { checkStage, isStaged } from "./stage.ts";
import { Superseded } from "./superseded.ts";

export interface EngineOptions {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Versions kept; at least 2. */
  readonly maxVersions: number;
  /** Their encoded bytes together; above it the oldest go, but never the newest two. */
  readonly maxBytes: number;
}

export const HISTORY_BOUNDS = { maxVersions: 100, maxBytes: 64 * 1024 * 1024 } as const;

/** How a version is put in force, by whom and why. With `expectedNumber` 0 whatever the newest is. */
export interface Terms {
  readonly expectedNumber: number;
  readonly stage: Stage | undefined;
  readonly principal: string;
  readonly reason: string;
  readonly changeTicket: string;
  /** What a node begins with, knowing of no version but what it began with before: anything applied elsewhere meanwhile wins over it. */
  readonly isInitial?: boolean;
}

export interface PolicyStatus {
  /** Whether policy decides; false until one is configured. */
  readonly isEnabled: boolean;
  /** Of the version in force here; undefined when none is. */
  readonly inForce: VersionFacts | undefined;
  /** Another than the one in force where its stage leaves this node out. */
  readonly newest: VersionFacts | undefined;
  /** What a person must know, such as a version that cannot be read; else empty. */
  readonly degraded: string;
  /** That the newest version won over one applied elsewhere at the same time; empty when it did not. */
  readonly conflict: string;
}

/** What became of a version that another node applied. */
export interface Taken {
  /** The newest before, where the one taken does not follow it: two people changed the policy without knowing of each other. */
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
  /** Another version, applied elsewhere at the same time, has its number. */
  readonly isSuperseded: boolean;
}

interface Kept {
  readonly number: number;
  readonly sizeBytes: number;
  /** Undefined: it cannot be read. */
  readonly facts: VersionFacts | undefined;
  readonly fault: string;
}

const MAX_CHANGES = 200;

/** Configured, but unreadable. */
const DENY_ALL: PolicySet = { version: "", defaultAllow: false, rules: [] };

/**
 * Sans-IO. A change goes in three steps: `stamped` makes the version, the shell stores it where its number is free (who loses a
 * race there gets `version_conflict`), `commit` puts it in force.
 */
export class PolicyEngine {
  readonly #options: EngineOptions;
  #policy: Policy = NO_POLICY;
  #told: Policy = NO_POLICY;
  #inForce: PolicyVersion | undefined;
  /** The newest that can be read. */
  #newest: PolicyVersion | undefined;
  /** By number, ascending. */
  readonly #kept: Kept[] = [];
  readonly #superseded = new Superseded();
  /** What is wrong with the versions kept, and with the policy file. */
  #fault = "";
  #fileFault = "";
  #edges: readonly number[] = [];
  /** Whether a cluster may know a policy that this node does not know yet: with none of its own nobody sees anything until then. */
  isAwaiting = false;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  /** Compiled; the same object until another version is in force. */
  get policy(): Policy {
    return this.isAwaiting && this.#policy === NO_POLICY ? PENDING_POLICY : this.#policy;
  }

  get inForce(): PolicyVersion | undefined {
    return this.#inForce;
  }

  get newest(): PolicyVersion | undefined {
    return this.#newest;
  }

  /** Of the newest version, whether it is in force here, can be read, or not; 0 when there never was one. */
  get newestNumber(): number {
    return this.#kept.at(-1)?.number ?? 0;
  }

  /** The newest version, where that is what this node itself began with. */
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
      conflict: this.#superseded.conflict,
    };
  }

  /** Where the newest version that can be read stands among those of other nodes. */
  get place(): VersionPlace {
    return this.#newest ?? NO_PLACE;
  }

  /** Whether policy denies everything because there is none that can be read. */
  get isDenied(): boolean {
    return this.#policy.set === DENY_ALL;
  }

  /** What is kept, newest first, and after each number what lost it to another. A version that cannot be read has no facts. */
  history(): readonly HistoryItem[] {
    const losers = this.#superseded.list.map((facts) => ({ number: facts.number, facts, fault: "", isSuperseded: true }));
    const kept = this.#kept.toReversed().map(({ number, facts, fault }) => ({ number, facts, fault, isSuperseded: false }));
    return losers.length === 0 ? kept : [...kept, ...losers].toSorted((a, b) => b.number - a.number);
  }

  /**
   * What the store has, at start: the newest version that is for this node and can be read is in force. Where it is not
   * the newest only because that one cannot be read, `status.degraded` says so; with none readable everything is denied.
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
    this.#superseded.restore(losers, this.#newest);
    if (chosen === undefined && this.#newest !== undefined && this.#isOnlyChoice(this.#newest)) chosen = this.#newest;
    this.#enforce(chosen);
    if (faults.length === 0) return;
    if (chosen !== undefined) this.#fault = listed(faults);
    else this.denyAll(listed(faults));
  }

  /**
   * The version that would put a set in force, which has passed `validate`. Yields between slices of work. Throws
   * `version_conflict` when `expectedNumber` is not the newest, and `invalid_argument` for a stage that reaches nobody.
   */
  *stamped(set: PolicySet, terms: Terms, wallMs: number): Generator<void, PolicyVersion> {
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
      checksum: checksumOf(canonical),
      lineage: before === undefined ? [] : [{ number: before.number, checksum: before.checksum }, ...before.lineage].slice(0, MAX_LINEAGE),
      stage,
      changes: changes.slice(0, MAX_CHANGES),
      changesLeftOut: Math.max(0, changes.length - MAX_CHANGES),
      set,
    };
  }

  /** The number a rollback goes to: the one asked for, or with 0 the one before the newest. Throws `not_found`. */
  rollbackTarget(toNumber: number): number {
    const target = toNumber === 0 ? this.#kept.at(-2) : this.#kept.find(({ number }) => number === toNumber);
    if (target !== undefined) return target.number;
    const kept = this.#kept.length === 0 ? "there are no versions" : `versions ${this.#kept[0]?.number} to ${this.newestNumber} are kept`;
    throw new WaymarkError("not_found", `there is no policy version ${toNumber === 0 ? "before the newest" : toNumber}: ${kept}`);
  }

  /**
   * A draft has been stored: it is the newest from now on, and in force where its stage says so. Returns the numbers of
   * versions that are no longer kept, which the shell may remove. Throws `version_conflict` when another came first.
   */
  commit(version: PolicyVersion, sizeBytes: number): readonly number[] {
    const { set: _set, ...facts } = version;
    if (version.number <= this.newestNumber) throw conflict(this.newestNumber, version.number - 1);
    this.#kept.push({ number: version.number, sizeBytes, facts, fault: "" });
    this.#superseded.clear();
    this.#settle(version);
    return this.#trim();
  }

  /** As `commit`, of a version in the place of `beginning`, under its number. Throws `version_conflict` when that is not the newest any more. */
  beginAgain(version: PolicyVersion, sizeBytes: number): void {
    if (this.beginning === undefined) throw conflict(this.newestNumber, 0);
    this.#kept.length = 0;
    this.commit(version, sizeBytes);
  }

  /** Another node's version, which `isNewer` than `place` and is stored: in force where its stage says so, or where nothing else is. */
  take(version: PolicyVersion, sizeBytes: number): Taken {
    const { set: _set, ...facts } = version;
    const before = this.#newest;
    const isParted = before !== undefined && !follows(version, before);
    const index = this.#kept.findIndex(({ number }) => number === version.number);
    if (index >= 0) this.#kept.splice(index, 1);
    this.#kept.push({ number: version.number, sizeBytes, facts, fault: "" });
    this.#kept.sort((a, b) => a.number - b.number);
    this.#superseded.clear();
    let droppedLosers: readonly VersionFacts[] = [];
    if (isParted) {
      const { set: _lost, ...loser } = before;
      this.#superseded.flag(loser, facts);
      if (loser.number === version.number) droppedLosers = this.#superseded.add(loser);
    }
    this.#settle(version);
    return { superseded: isParted ? before : undefined, dropped: this.#trim(), droppedLosers };
  }

  /** A version that the store has and this engine did not know: another's, or one whose answer was lost. As `commit`. */
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
   * Whether the policy file could be read (an empty text) or what is wrong with it: whatever is in force stays, and with
   * nothing in force all is denied.
   */
  fileRead(fault: string): void {
    this.#fileFault = fault;
    if (fault !== "" && this.#policy.set === undefined) this.denyAll("");
  }

  /** There is no policy that can be read: everything is denied until there is. */
  denyAll(fault: string): void {
    this.#inForce = undefined;
    this.#edges = [];
    // No version has this number, so no cursor given under one is taken for current.
    this.#policy = new Policy(DENY_ALL, 0);
    this.#fault = fault;
  }

  #settle(version: PolicyVersion): void {
    this.#newest = version;
    if (!isStaged(version, this.#options) && !this.#isOnlyChoice(version)) return;
    this.#enforce(version);
    this.#fault = "";
  }

  /** Whether a node that knows no earlier version takes what others apply, whatever the stage: it must not show what they hide. */
  #isOnlyChoice({ nodeId }: PolicyVersion): boolean {
    return this.#inForce === undefined && nodeId !== "" && nodeId !== this.#options.nodeId;
  }

  /** The policy in force before and after what happened since the last call; undefined when it is the same. */
  takeChanged(): { readonly before: Policy; readonly after: Policy } | undefined {
    const after = this.policy;
    if (this.#told === after) return undefined;
    const changed = { before: this.#told, after };
    this.#told = after;
    return changed;
  }

  /** The next instant at which a cutover window of any rule opens or closes. Cost: a binary search. */
  nextEdgeWallMs(wallMs: number): number | undefined {
    let low = 0;
    let high = this.#edges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#edges[middle] ?? 0) <= wallMs) low = middle + 1;
      else high = middle;
    }
    return this.#edges[low];
  }

  #degraded(): string {
    const faults = [this.#fault, this.#fileFault].filter((fault) => fault !== "");
    if (faults.length === 0) return "";
    return `${faults.join("; ")}; ${this.isDenied ? "everything is denied" : `version ${this.#policy.number} is in force`}`;
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
      // A node that a stage leaves out still needs the version it has.
      const index = this.#kept.findIndex(({ number }) => number !== this.#inForce?.number);
      const [oldest] = this.#kept.splice(index, 1);
      if (oldest === undefined) break;
      bytes -= oldest.sizeBytes;
      removed.push(oldest.number);
    }
    return removed;
  }
}

/** `version_conflict` with both numbers. */
export function conflict(newest: number, expected: number): WaymarkError {
  return new WaymarkError("version_conflict", `the newest policy is version ${newest}, expected was ${expected}`, {
    metadata: { newest: `${newest}`, expected: `${expected}` },
  });
}

/** A version of that number, with a set that has no errors. `isChecked` false leaves those to `validateSlices`. */
export function readVersion(number: number, bytes: Uint8Array, isChecked = true): ReturnType<typeof decodeVersion> {
  const read = decodeVersion(bytes);
  if (!read.ok) return read;
  if (read.version.number !== number) return { ok: false, fault: `it says that it is version ${read.version.number}` };
  if (!isChecked) return read;
  const first = validate(read.version.set).find(({ severity }) => severity === "error");
  return first === undefined ? read : { ok: false, fault: `${first.path}: ${first.message}` };
}

/** Whether a version was made by somebody who knew another, as far as it says. */
function follows(version: VersionFacts, before: VersionFacts): boolean {
  if (version.number === before.number) return version.checksum === before.checksum;
  const known = version.lineage.find(({ number }) => number === before.number);
  return known === undefined || known.checksum === before.checksum;
}

function listed(faults: readonly string[]): string {
  return faults.length <= 3 ? faults.join("; ") : `${faults.slice(0, 3).join("; ")}; and ${faults.length - 3} more`;
}
