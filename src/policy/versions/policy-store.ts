/**
 * Stores policy versions and puts them in force, in these steps: validate, draft, swap, commit, audit. Used by the policy service, the links and the
 * policy file.
 */
import { WaymarkError } from "../../lib/errors.ts";
import { Hlc } from "../../lib/hlc.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { type AuditEvent, subjectOf } from "../audit/record.ts";
import type { Caller } from "../identity/caller.ts";
import { foreignChangeSlices, foreignOutline, type OwnershipTest, type SetOutline } from "../set/diff.ts";
import { type CatalogFacts, type PolicyPlan, planChanges } from "../set/plan.ts";
import type { PolicySet } from "../set/rules.ts";
import {
  hasErrors,
  openedRules,
  type PolicyProblem,
  PolicyProblems,
  refuseSet,
  type ValidationFacts,
  validateSlices,
} from "../set/validation.ts";
import type { RecordSource } from "../set/verdict.ts";
import { alone, getItem, type PolicyTask, page, publish, type StoredPage, swap, time } from "../task.ts";
import { decodeFacts, decodeVersion, encodeVersion } from "./codec.ts";
import { type ApplyTerms, conflict, type PolicyEngine, readVersion } from "./engine.ts";
import {
  isNewer,
  isSamePlace,
  type PolicyVersion,
  type PolicyVia,
  type VersionFacts,
  type VersionPlace,
  type VersionRow,
} from "./version.ts";

export interface PolicyStoreParts {
  readonly engine: PolicyEngine;
  readonly catalog: CatalogFacts;
  /** The cluster and region of this node. */
  readonly self: RecordSource;
  /** The known clusters and regions, with which the owners in rules are checked. */
  readonly knownPlaces: () => ReadonlySet<string>;
  readonly audit: (event: AuditEvent) => void;
  /** Called when the newest version on this node has changed, before any listener shows the new version. */
  readonly onHead: (head: VersionPlace) => void;
}

/** The author of a change, for the audit log. The address is empty for changes by the node itself. */
export interface ChangeAuthor extends Pick<Caller, "address" | "principal" | "tenant" | "tokenId"> {
  /**
   * The namespaces whose rules the author may change (`foreignChangeSlices`). Undefined if the author may change all rules and the set's own fields.
   */
  readonly owns: OwnershipTest | undefined;
  /** Whether the author may read the rules of other owners. If so, the error for a refused change names the rule. */
  readonly mayRead: boolean;
}

export interface ApplyRequest {
  readonly set: PolicySet;
  /** Problems that were found while the set was being read. If the list is full, the set is incomplete. */
  readonly problems?: PolicyProblems<PolicyProblem>;
  readonly terms: Omit<ApplyTerms, "principal">;
  readonly isDryRun: boolean;
}

export interface ApplyResult {
  /** The number of the new version, or for a dry run, of the version in force. */
  readonly number: number;
  readonly plan: PolicyPlan;
  readonly warnings: readonly PolicyProblem[];
}

export interface RollbackRequest {
  /** If 0, the version before the newest is restored. */
  readonly toNumber: number;
  readonly isDryRun?: boolean;
  readonly terms: Omit<ApplyTerms, "principal" | "stage">;
}

/** A checked set, with everything that is needed to put it in force. */
interface Enactment {
  readonly set: PolicySet;
  readonly terms: ApplyTerms;
  readonly warnings: readonly PolicyProblem[];
  readonly isDryRun: boolean;
  readonly reason: "applied" | "rolled_back";
}

/** The result when another node offers a version. An empty fault means that this node already has this version or a newer one. */
export type AdoptResult = { readonly isAdopted: true } | { readonly isAdopted: false; readonly fault: string };

/** Start of the keys of versions, which are in the order of the numbers. */
export const VERSIONS = "policy/versions/";
const SUPERSEDED = "policy/superseded/";

/** The methods of this class are tasks. Versions are stored one after another, whether they come from callers, the policy file or other nodes. */
export class PolicyStore {
  readonly #parts: PolicyStoreParts;
  /** The version that is currently being shown to readers. */
  #shown: { readonly place: VersionPlace; readonly bytes: Uint8Array } | undefined;

  constructor(parts: PolicyStoreParts) {
    this.#parts = parts;
  }

  get engine(): PolicyEngine {
    return this.#parts.engine;
  }

  /** Reads the versions from the store. If the store is unavailable, everything is denied, because a policy may be configured. */
  *restore(): PolicyTask<void> {
    const { engine } = this.#parts;
    try {
      engine.restore(yield* rowsAfter(VERSIONS), yield* losers());
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      engine.denyAll(`the policy cannot be read: ${error.message}`);
    }
    yield* this.#show();
  }

  /**
   * Returns all problems of a set, within the limits of `PolicyProblems`, starting with the problems that were found while the set was being read.
   * The result reveals nothing about entries in namespaces that the caller does not own.
   */
  *validate(
    set: PolicySet,
    problems = new PolicyProblems<PolicyProblem>(),
    owns: OwnershipTest = () => true,
  ): PolicyTask<readonly PolicyProblem[]> {
    const { catalog } = this.#parts;
    yield* this.#problemsOf(set, problems, (namespace) => (owns(namespace) ? catalog.count(namespace) : 0));
    for (const problem of openedRules(this.engine.inForce?.set, set)) problems.add(problem);
    return problems.list;
  }

  *#problemsOf(
    set: PolicySet,
    problems?: PolicyProblems<PolicyProblem>,
    countEntries?: ValidationFacts["countEntries"],
  ): PolicyTask<readonly PolicyProblem[]> {
    const { wallMs } = yield* time();
    return yield* validateSlices(set, { clusters: this.#parts.knownPlaces(), nowWallMs: wallMs, countEntries }, problems);
  }

  /**
   * Checks whether an actor may replace the newest version, and the version in force, with a set of which only the outline is known. This check is
   * cheap, so it is done before the set is decoded. `apply` also checks the set's rules. Fails with the same errors as `apply`.
   */
  checkOutline({ owns, mayRead }: ChangeAuthor, outline: SetOutline, expectedNumber: number): void {
    if (owns === undefined) return;
    for (const version of this.#replaced(expectedNumber)) {
      const foreign = foreignOutline(version?.set, outline, owns);
      if (foreign !== undefined) throw notOwned(foreign, mayRead);
    }
  }

  /**
   * Puts a set in force, or for a dry run returns the changes that it would cause. When the task ends, the version is durable and recorded in the
   * audit log. Fails with `invalid_argument` for a set with errors, with `version_conflict` if another version was applied first, and with
   * `discovery_access_denied` if the actor must not make these changes.
   */
  *apply(actor: ChangeAuthor, { set, problems, terms, isDryRun }: ApplyRequest): PolicyTask<ApplyResult> {
    if (problems?.isFull === true) throw refuseSet(problems.list);
    // This check is done first, so that a caller that must not change a rule learns nothing about the rule.
    const expectedNumber = yield* this.#permit(actor, set, terms.expectedNumber);
    const all = yield* this.validate(set, problems, actor.owns);
    if (hasErrors(all)) throw refuseSet(all);
    const full = { ...terms, expectedNumber, principal: actor.principal };
    return yield* this.#enact(actor, { set, terms: full, warnings: all, isDryRun, reason: "applied" });
  }

  /**
   * Turns the initial version of this node into an ordinary version by giving it a stamp. No initial version of another node then has precedence over
   * it.
   */
  *establish(): PolicyTask<void> {
    yield* alone(() => this.#establish());
  }

  *#establish(): PolicyTask<void> {
    const { beginning } = this.engine;
    if (beginning === undefined) return;
    const version = { ...beginning, hlc: new Hlc().stampEnd(0, (yield* time()).wallMs) };
    yield* this.#beginAgain(version, encodeVersion(version));
  }

  /**
   * Puts an earlier set in force again as a new version on all nodes, or for a dry run returns the changes that it would cause. Fails with the same
   * errors as `apply`, and with `not_found`. A set that was in force before is not rejected because of errors.
   */
  *rollback(actor: ChangeAuthor, { toNumber, terms, isDryRun = false }: RollbackRequest): PolicyTask<ApplyResult> {
    const { number: target } = this.engine.rollbackTarget(toNumber);
    const { set } = yield* this.load(target);
    const reason = terms.reason === "" ? `rollback to version ${target}` : terms.reason;
    const expectedNumber = yield* this.#permit(actor, set, terms.expectedNumber);
    const warnings = (yield* this.validate(set, undefined, actor.owns)).filter(({ severity }) => severity === "warning");
    const full = { ...terms, expectedNumber, reason, stage: undefined, principal: actor.principal };
    return yield* this.#enact(actor, { set, terms: full, warnings, isDryRun, reason: "rolled_back" });
  }

  /** Puts a checked set in force. For a dry run, only reports the changes. */
  *#enact(actor: ChangeAuthor, { set, terms, warnings, isDryRun, reason }: Enactment): PolicyTask<ApplyResult> {
    const { engine, catalog, self } = this.#parts;
    const before = engine.policy.set;
    const version = yield* engine.stamped(set, terms, (yield* time()).wallMs);
    const plan = yield* planChanges(before, set, { catalog, self, wallMs: (yield* time()).wallMs });
    if (isDryRun) return { number: engine.policy.number, plan, warnings };
    yield* this.#put(actor, version, reason, terms.isInitial);
    return { number: version.number, plan, warnings };
  }

  /**
   * Adopts a version from another node, received over a link from `via`. If it is newer than the versions kept on this node, it is stored and in
   * force when the task ends. A different version with the same number is kept as a superseded version.
   */
  *adopt(place: VersionPlace, bytes: Uint8Array, via: PolicyVia): PolicyTask<AdoptResult> {
    yield;
    const read = readVersion(place.number, bytes, false);
    if (!read.ok) return { isAdopted: false, fault: read.fault };
    const { version } = read;
    if (!isSamePlace(version, place)) return { isAdopted: false, fault: "it differs from the offered version" };
    yield;
    const worst = (yield* this.#problemsOf(version.set)).find(({ severity }) => severity === "error");
    if (worst !== undefined) return { isAdopted: false, fault: `${worst.path}: ${worst.message}` };
    return yield* alone(() => this.#adopt(version, bytes, via));
  }

  *#adopt(version: PolicyVersion, bytes: Uint8Array, via: PolicyVia): PolicyTask<AdoptResult> {
    if (!isNewer(version, this.engine.place)) return { isAdopted: false, fault: "" };
    yield* this.#take(version, bytes, via);
    return { isAdopted: true };
  }

  /**
   * Returns the newest version in encoded form, to be sent to another node. Undefined if the newest version has a different number or cannot be read.
   */
  *encoded(number: number): PolicyTask<Uint8Array | undefined> {
    if (number !== this.engine.place.number) return undefined;
    return (yield* getItem(keyOf(number)))?.value;
  }

  /**
   * Returns a version in encoded form while it is being shown to readers, because a resolver must receive the version before it receives the records
   * shown under it. Undefined for all other versions.
   */
  encodedNow(place: VersionPlace): Uint8Array | undefined {
    return this.#shown !== undefined && isSamePlace(this.#shown.place, place) ? this.#shown.bytes : undefined;
  }

  /**
   * Returns a kept version in encoded form, to be sent to a resolver. Undefined if the version is no longer kept, or if its number was reassigned to
   * another version.
   */
  *encodedAt(place: VersionPlace): PolicyTask<Uint8Array | undefined> {
    const item = yield* getItem(keyOf(place.number));
    const read = item === undefined ? undefined : decodeFacts(item.value);
    return read?.ok === true && isSamePlace(read.version, place) ? item?.value : undefined;
  }

  /** Returns a kept version with its rules. Fails with `not_found`, also if the version can no longer be read. */
  *load(number: number): PolicyTask<PolicyVersion> {
    return yield* loadFrom(keyOf(number), number);
  }

  /** Returns a superseded version with its rules. Fails with the same errors as `load`. */
  *loadSuperseded(facts: VersionFacts): PolicyTask<PolicyVersion> {
    return yield* loadFrom(loserKey(facts), facts.number);
  }

  /**
   * Checks that an actor may replace the newest version with a set. If a stage excludes this node, the version in force is checked too. Returns the
   * number that the draft must expect to be the newest, so that no unchecked version is overwritten.
   */
  *#permit({ owns, mayRead }: ChangeAuthor, set: PolicySet, expectedNumber: number): PolicyTask<number> {
    if (owns === undefined) return expectedNumber;
    const { newestNumber } = this.engine;
    for (const version of this.#replaced(expectedNumber)) {
      const foreign = yield* foreignChangeSlices(version?.set, set, owns);
      if (foreign !== undefined) throw notOwned(foreign, mayRead);
    }
    return newestNumber;
  }

  /**
   * Returns the versions that would be replaced by an owner's set. Fails with `version_conflict` if the newest version is not the one that the caller
   * expects.
   */
  #replaced(expectedNumber: number): readonly (PolicyVersion | undefined)[] {
    const { newestNumber, newest, inForce } = this.engine;
    if (expectedNumber !== 0 && expectedNumber !== newestNumber) throw conflict(newestNumber, expectedNumber);
    // If the newest version cannot be read, only admins may replace it, because the changes that an owner's set makes cannot be determined.
    return newest?.number === newestNumber ? [...new Set([newest, inForce])] : [undefined];
  }

  /** Stores a draft if its number is free, and puts it in force. The task ends when the audit record of the change is on disk. */
  *#put(actor: ChangeAuthor, version: PolicyVersion, reason: "applied" | "rolled_back", isInitial = false): PolicyTask<void> {
    const before = this.engine.status.newest?.checksum ?? "";
    const bytes = encodeVersion(version);
    yield;
    const dropped = yield* alone(() =>
      isInitial && this.engine.newestNumber > 0 ? this.#beginAgain(version, bytes) : this.#add(version, bytes, isInitial),
    );
    this.#parts.audit(appliedEvent({ version, before, reason, actor, wallMs: (yield* time()).wallMs }));
    for (const old of dropped) yield* drop(keyOf(old));
    yield { kind: "audited" };
  }

  /** Stores a version if its number is free, and puts it in force. Returns the numbers of versions that are no longer kept. */
  *#add(version: PolicyVersion, bytes: Uint8Array, isInitial: boolean): PolicyTask<readonly number[]> {
    const { engine } = this;
    // An initial version is only a beginning, which every other version replaces, so it does not need the store.
    if (!isInitial && !(yield* publish(bytes))) throw conflict(version.number, version.number - 1);
    const isSwapped = yield* swap(keyOf(version.number), 0, bytes);
    if (!isSwapped) yield* this.#catchUp();
    if (!isSwapped || version.number <= engine.newestNumber) throw conflict(engine.newestNumber, version.number - 1);
    const dropped = engine.commit(version, bytes.length);
    yield* this.#show({ place: version, bytes });
    return dropped;
  }

  /** Stores a version in place of this node's initial version, which was the only version. */
  *#beginAgain(version: PolicyVersion, bytes: Uint8Array): PolicyTask<readonly number[]> {
    const { engine } = this;
    if (engine.beginning === undefined) throw conflict(engine.newestNumber, 0);
    const item = yield* getItem(keyOf(version.number));
    yield* replace(version, item?.version ?? 0, bytes);
    engine.beginAgain(version, bytes.length);
    yield* this.#show({ place: version, bytes });
    return [];
  }

  /** Stores a version from another node and puts it in force. A local version with the same number is kept as a superseded version first. */
  *#take(version: PolicyVersion, bytes: Uint8Array, via: PolicyVia): PolicyTask<void> {
    const { engine, audit } = this.#parts;
    const before = engine.place.checksum;
    const item = yield* getItem(keyOf(version.number));
    const old = item === undefined ? undefined : decodeFacts(item.value);
    if (item !== undefined && old?.ok === true && old.version.checksum !== version.checksum)
      yield* swap(loserKey(old.version), 0, item.value);
    yield* replace(version, item?.version ?? 0, bytes);
    const { superseded, dropped, droppedLosers } = engine.take(version, bytes.length);
    yield* this.#show({ place: version, bytes });
    const { wallMs } = yield* time();
    for (const event of takenEvents({ version, before, superseded, conflict: engine.status.conflict, via, wallMs })) audit(event);
    for (const number of dropped) yield* drop(keyOf(number));
    for (const loser of droppedLosers) yield* drop(loserKey(loser));
    yield { kind: "audited" };
  }

  /** Adds the versions in the store that the engine does not know, for example after an answer was lost. */
  *#catchUp(): PolicyTask<void> {
    const { engine } = this;
    for (const row of yield* rowsAfter(keyOf(engine.newestNumber))) engine.adopt(row);
    yield* this.#show();
  }

  /** Notifies other nodes first, because this version may hide records that are sent to them from now on. */
  *#show(version?: { readonly place: VersionPlace; readonly bytes: Uint8Array }): PolicyTask<void> {
    this.#shown = version;
    this.#parts.onHead(this.engine.place);
    yield { kind: "shown" };
    if (this.#shown === version) this.#shown = undefined;
  }
}

function* loadFrom(key: string, number: number): PolicyTask<PolicyVersion> {
  const item = yield* getItem(key);
  if (item === undefined) throw new WaymarkError("not_found", `policy version ${number} is no longer kept`);
  const read = decodeVersion(item.value);
  if (!read.ok) throw new WaymarkError("not_found", `policy version ${number} cannot be read: ${read.fault}`);
  return read.version;
}

function* rowsAfter(start: string): PolicyTask<readonly VersionRow[]> {
  const items = yield* itemsAfter(VERSIONS, start);
  return items.map(({ key, value }) => ({ number: Number(key.slice(VERSIONS.length).replace("~", "")), bytes: value }));
}

function* losers(): PolicyTask<readonly VersionFacts[]> {
  const read = (yield* itemsAfter(SUPERSEDED, SUPERSEDED)).map(({ value }) => decodeFacts(value));
  return read.flatMap((facts) => (facts.ok ? [facts.version] : []));
}

function* itemsAfter(prefix: string, start: string): PolicyTask<StoredPage["items"]> {
  const all: StoredPage["items"][number][] = [];
  for (let after: string | undefined = start; after !== undefined; ) {
    const { items, nextAfter }: StoredPage = yield* page(prefix, after);
    all.push(...items);
    after = nextAfter;
  }
  return all;
}

function* replace({ number }: PolicyVersion, expectedVersion: number, bytes: Uint8Array): PolicyTask<void> {
  if (yield* swap(keyOf(number), expectedVersion, bytes)) return;
  throw new WaymarkError("store_unavailable", `policy version ${number} was changed in the store by another request; try again`);
}

function* drop(key: string): PolicyTask<void> {
  const item = yield* getItem(key);
  if (item !== undefined) yield* swap(key, item.version, undefined);
}

function notOwned(foreign: string, mayRead: boolean): WaymarkError {
  const why = mayRead ? foreign : "the set changes other rules";
  const need = "permission denied: the caller must have the role mesh.admin, or change only rules of namespaces that it owns";
  return new WaymarkError("discovery_access_denied", `${need}: ${why}`, { metadata: { role: "mesh.admin" } });
}

function loserKey({ number, checksum }: VersionFacts): string {
  return `${SUPERSEDED}${`${number}`.padStart(12, "0")}-${checksum.slice(0, 16)}`;
}

/**
 * Returns the store key of a version. The keys sort in the same order as the version numbers. Numbers of more than 12 digits sort after all others.
 */
function keyOf(number: number): string {
  return `${VERSIONS}${number < 1e12 ? `${number}`.padStart(12, "0") : `~${`${number}`.padStart(16, "0")}`}`;
}

/** The data that the audit log records about a policy version that was applied on this node. */
interface AppliedVersion {
  readonly version: PolicyVersion;
  /** The checksum of the previous newest version. */
  readonly before: string;
  readonly reason: "applied" | "rolled_back";
  readonly actor: Omit<ChangeAuthor, "mayRead" | "owns">;
  readonly wallMs: number;
}

/** The data that the audit log records about a policy version that was adopted from another node. */
interface AdoptedVersion {
  readonly version: PolicyVersion;
  /** The checksum of the previous newest version. */
  readonly before: string;
  /** The version that the adopted version superseded. Undefined if it superseded no version. */
  readonly superseded: VersionFacts | undefined;
  /** Describes the conflict between the two versions. */
  readonly conflict: string;
  readonly via: PolicyVia;
  readonly wallMs: number;
}

const POLICY_EVENT = { kind: "policy", namespace: "", outcome: "allowed", rule: "", requestId: "", tokenId: "", ticket: "" } as const;

export function appliedEvent({ version, before, reason, actor, wallMs }: AppliedVersion): AuditEvent {
  const { number, ruleCount, checksum } = version;
  const { principal, tenant, address, tokenId = "" } = actor;
  const action = reason === "applied" ? "policy.apply" : "policy.rollback";
  const detail = detailOf(`version ${number} with ${counted(ruleCount, "rule")}`, version);
  const subjects = subjectOf("policy", number);
  return {
    ...POLICY_EVENT,
    atWallMs: wallMs,
    principal,
    tenant,
    source: address,
    action,
    reason,
    before,
    after: checksum,
    detail,
    subjects,
    tokenId,
    ticket: version.changeTicket,
  };
}

/** Returns the audit events for the adopted version and for the version that it superseded. */
export function takenEvents({ version, before, superseded, conflict: conflictText, via, wallMs }: AdoptedVersion): readonly AuditEvent[] {
  const { number, ruleCount, nodeId, principal, checksum } = version;
  const common = { ...POLICY_EVENT, atWallMs: wallMs, tenant: "", source: "", after: checksum, subjects: subjectOf("policy", number) };
  const from = `adopted from node ${nodeId} through node ${via.nodeId} of cluster ${via.clusterId}`;
  const detail = detailOf(`version ${number} with ${counted(ruleCount, "rule")}, ${from}`, version);
  const what = { action: "policy.adopt", reason: "adopted", ticket: version.changeTicket } as const;
  const taken: AuditEvent = { ...common, ...what, principal, before, detail };
  if (superseded === undefined) return [taken];
  const lost = { principal: superseded.principal, action: "policy.supersede", reason: "superseded" };
  return [taken, { ...common, ...lost, before: superseded.checksum, detail: conflictText }];
}

function detailOf(what: string, { reason }: PolicyVersion): string {
  return reason === "" ? what : `${what}; ${reason}`;
}
