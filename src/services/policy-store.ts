/** Puts policy versions in the store and in force: validate, draft, swap, commit, audit; what the service and the policy file share. */
import type { PolicyVia } from "../fabric/io-types.ts";
import { WaymarkError } from "../lib/errors.ts";
import { Hlc } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { AuditSink } from "../policy/audit/record.ts";
import type { DecodedSet } from "../policy/set/codec.ts";
import { foreignChangeSlices, type Owns } from "../policy/set/ownership.ts";
import { type CatalogFacts, type Plan, planChanges } from "../policy/set/plan.ts";
import { hasErrors, type Known, openedRules, type Problem, refuseSet, validateSlices } from "../policy/set/policy-set.ts";
import type { PolicySet } from "../policy/set/rules.ts";
import type { Source } from "../policy/set/verdict.ts";
import { decodeFacts, decodeVersion, encodeVersion } from "../policy/versions/codec.ts";
import { conflict, type PolicyEngine, readVersion, type Terms } from "../policy/versions/engine.ts";
import type { PolicyVersion, VersionFacts, VersionRow } from "../policy/versions/facts.ts";
import { isNewer, isSamePlace, type VersionPlace } from "../policy/versions/order.ts";
import type { Store } from "../store/control/store.ts";
import { tellTaken } from "./policy-trail.ts";

export interface PolicyStoreParts {
  readonly engine: PolicyEngine;
  readonly store: Store;
  readonly audit: AuditSink;
  readonly catalog: CatalogFacts;
  /** Cluster and region of this node. */
  readonly self: Source;
  /** Clusters and regions that owners are looked up in. */
  readonly knownPlaces: () => ReadonlySet<string>;
  readonly now: () => Time;
  /** Lets the event loop go on with other things. */
  readonly pause: () => Promise<void>;
  /** Another policy may be in force (`engine.takeChanged`); resolves when every listener shows it. */
  readonly onChange: () => Promise<void>;
  /** The change before is through, and watches have heard of it. */
  readonly heard: () => Promise<void>;
}

/** Who asks, for the audit. */
export interface Actor {
  readonly principal: string;
  readonly tenant: string;
  /** Address the call came from; empty for the node itself. */
  readonly address: string;
  /** Undefined: may change everything. Else whose rules it may change, see ownership.ts. */
  readonly owns: Owns | undefined;
  /** Whether it may read the rules of others, and so be told which one is in its way. */
  readonly mayRead: boolean;
}

export interface ApplyRequest {
  readonly set: PolicySet;
  /** Found while the set was read. */
  readonly problems: readonly Problem[];
  readonly terms: Omit<Terms, "principal">;
  readonly isDryRun: boolean;
}

export interface Applied {
  /** The new version's; of a dry run the number in force. */
  readonly number: number;
  readonly plan: Plan;
  readonly warnings: readonly Problem[];
}

export interface RollbackRequest {
  /** 0: the one before the newest. */
  readonly toNumber: number;
  readonly isDryRun?: boolean;
  readonly terms: Omit<Terms, "principal" | "stage">;
}

/** What became of a version that another node offered; without a fault it, or a newer one, is kept here already. */
export type Adopted = { readonly isAdopted: true } | { readonly isAdopted: false; readonly fault: string };

const VERSIONS = "policy/versions/";
const SUPERSEDED = "policy/superseded/";

export class PolicyStore {
  readonly #parts: PolicyStoreParts;
  /** Versions are stored one after the other: here and from other nodes. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: PolicyStoreParts) {
    this.#parts = parts;
  }

  get engine(): PolicyEngine {
    return this.#parts.engine;
  }

  /** Reads what the store has. A store that is away means that a policy may be configured: everything is denied. */
  async restore(): Promise<void> {
    const { engine, onChange } = this.#parts;
    try {
      engine.restore(await this.#rows(VERSIONS), await this.#losers());
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      engine.denyAll(`the policy cannot be read: ${error.message}`);
    }
    await onChange();
  }

  /** What was read from the wire was long enough to be read in one go: `read` goes on in a turn of its own. */
  async readSet(read: () => DecodedSet): Promise<DecodedSet> {
    await this.#parts.pause();
    return read();
  }

  /** Every problem of a set, those found while it was read first. */
  async validate(set: PolicySet, found: readonly Problem[] = []): Promise<readonly Problem[]> {
    const { engine, knownPlaces, now } = this.#parts;
    const known: Known = { clusters: knownPlaces(), nowWallMs: now().wallMs };
    const problems = await this.#inSlices(validateSlices(set, known));
    return [...found, ...problems, ...openedRules(engine.inForce?.set, set)];
  }

  /**
   * Puts a set in force, durable and audited when this resolves, or says what it would change. Rejects with
   * `invalid_argument` for a set with errors, with `version_conflict` where another version came first, and with
   * `discovery_access_denied` where it changes what the actor may not.
   */
  async apply(actor: Actor, { set, problems, terms, isDryRun }: ApplyRequest): Promise<Applied> {
    // First, so that who may not change a rule is told nothing about it.
    const expectedNumber = await this.#permit(actor, set, terms.expectedNumber);
    const all = await this.validate(set, problems);
    if (hasErrors(all)) throw refuseSet(all);
    const full = { ...terms, expectedNumber, principal: actor.principal };
    return this.#enact(actor, { set, terms: full, warnings: all, isDryRun, action: "policy.apply" });
  }

  /** What this node began with is a version as any other from now on, with a stamp: no beginning of another node wins over it. */
  async establish(): Promise<void> {
    await this.#alone(async () => {
      const { beginning } = this.engine;
      if (beginning === undefined) return;
      const version = { ...beginning, hlc: new Hlc().stampEnd(0, this.#parts.now().wallMs) };
      await this.#beginAgain(version, encodeVersion(version));
    });
  }

  /**
   * Puts an earlier set in force again, as a new version everywhere, or says what it would change. Rejects as `apply` does, and with
   * `not_found`; what was in force once is not refused for errors.
   */
  async rollback(actor: Actor, { toNumber, terms, isDryRun = false }: RollbackRequest): Promise<Applied> {
    const target = this.engine.rollbackTarget(toNumber);
    const { set } = await this.load(target);
    const reason = terms.reason === "" ? `rollback to version ${target}` : terms.reason;
    const expectedNumber = await this.#permit(actor, set, terms.expectedNumber);
    const warnings = (await this.validate(set)).filter(({ severity }) => severity === "warning");
    const full = { ...terms, expectedNumber, reason, stage: undefined, principal: actor.principal };
    return this.#enact(actor, { set, terms: full, warnings, isDryRun, action: "policy.rollback" });
  }

  /** Puts a set that was checked in force, unless it is only asked what it changes. */
  async #enact(
    actor: Actor,
    {
      set,
      terms,
      warnings,
      isDryRun,
      action,
    }: Pick<Applied, "warnings"> & Pick<ApplyRequest, "set" | "isDryRun"> & { readonly terms: Terms; readonly action: string },
  ): Promise<Applied> {
    const { engine, catalog, self, now } = this.#parts;
    const before = engine.policy.set;
    const version = await this.#inSlices(engine.stamped(set, terms, now().wallMs));
    const plan = await this.#inSlices(planChanges(before, set, { catalog, self, wallMs: now().wallMs }));
    if (isDryRun) return { number: engine.policy.number, plan, warnings };
    await this.#put(actor, version, action, terms.isInitial);
    return { number: version.number, plan, warnings };
  }

  /**
   * Another node's version, as it came over a link, by way of `via`: stored and in force when this resolves, where it is newer than what is kept
   * here. One that was kept under the same number and says something else goes to the superseded ones.
   */
  async adoptForeign(place: VersionPlace, bytes: Uint8Array, via: PolicyVia): Promise<Adopted> {
    const { engine, knownPlaces, now } = this.#parts;
    await this.#parts.pause();
    const read = readVersion(place.number, bytes, false);
    if (!read.ok) return { isAdopted: false, fault: read.fault };
    const { version } = read;
    if (!isSamePlace(version, place)) return { isAdopted: false, fault: "it is not the version that was offered" };
    await this.#parts.pause();
    const known: Known = { clusters: knownPlaces(), nowWallMs: now().wallMs };
    const worst = (await this.#inSlices(validateSlices(version.set, known))).find(({ severity }) => severity === "error");
    if (worst !== undefined) return { isAdopted: false, fault: `${worst.path}: ${worst.message}` };
    return this.#alone(async () => {
      if (!isNewer(version, engine.place)) return { isAdopted: false, fault: "" };
      await this.#take(version, bytes, via);
      return { isAdopted: true };
    });
  }

  /** The encoded version that is the newest here, for another node; undefined when it is another, or cannot be read. */
  async encoded(number: number): Promise<Uint8Array | undefined> {
    if (number !== this.engine.place.number) return undefined;
    const item = await this.#parts.store.get(keyOf(number));
    return item?.value;
  }

  /** A kept version with its rules. Rejects with `not_found`, also when it can no longer be read. */
  async load(number: number): Promise<PolicyVersion> {
    return this.#load(keyOf(number), number);
  }

  /** A superseded version with its rules. Rejects as `load` does. */
  async loadSuperseded(facts: VersionFacts): Promise<PolicyVersion> {
    return this.#load(loserKey(facts), facts.number);
  }

  async #load(key: string, number: number): Promise<PolicyVersion> {
    const item = await this.#parts.store.get(key);
    if (item === undefined) throw new WaymarkError("not_found", `policy version ${number} is no longer kept`);
    const read = decodeVersion(item.value);
    if (!read.ok) throw new WaymarkError("not_found", `policy version ${number} cannot be read: ${read.fault}`);
    return read.version;
  }

  /**
   * Whether an actor may put a set in the place of what there is: of the newest version, and of the one that is in force
   * where a stage leaves this node out. Returns the number that the draft must then expect, so that nothing which was not
   * looked at here is overwritten.
   */
  async #permit({ owns, mayRead }: Actor, set: PolicySet, expectedNumber: number): Promise<number> {
    if (owns === undefined) return expectedNumber;
    const { newestNumber, newest, inForce } = this.engine;
    if (expectedNumber !== 0 && expectedNumber !== newestNumber) throw conflict(newestNumber, expectedNumber);
    // A newest version that cannot be read is the admins' to replace: nobody can say what of it an owner would change.
    const known = newest?.number === newestNumber ? [...new Set([newest, inForce])] : [undefined];
    for (const version of known) {
      const foreign = await this.#inSlices(foreignChangeSlices(version?.set, set, owns));
      if (foreign !== undefined) throw notOwned(mayRead ? foreign : "the set differs in more than that");
    }
    return newestNumber;
  }

  /** Stores a draft where its number is free, puts it in force, and answers when that is audited. */
  async #put(actor: Actor, version: PolicyVersion, action: string, isInitial = false): Promise<void> {
    const { engine, store, audit, now, onChange } = this.#parts;
    const before = engine.status.newest?.checksum ?? "";
    const bytes = encodeVersion(version);
    await this.#parts.pause();
    const dropped = await this.#alone(async () => {
      if (isInitial && engine.newestNumber > 0) {
        await this.#beginAgain(version, bytes);
        return [];
      }
      const swap = await store.compareAndSwap(keyOf(version.number), 0, bytes);
      if (!swap.isSwapped) await this.#catchUp();
      if (!swap.isSwapped || version.number <= engine.newestNumber) throw conflict(engine.newestNumber, version.number - 1);
      const old = engine.commit(version, bytes.length);
      await onChange();
      return old;
    });
    const { number, ruleCount, reason, changeTicket, checksum } = version;
    const detail = [`version ${number} with ${ruleCount} rules`, reason, changeTicket === "" ? "" : `ticket ${changeTicket}`];
    audit.record({
      atWallMs: now().wallMs,
      kind: "policy",
      principal: actor.principal,
      tenant: actor.tenant,
      source: actor.address,
      action,
      namespace: "",
      outcome: "allowed",
      reason: action === "policy.rollback" ? "rolled_back" : "applied",
      rule: "",
      before,
      after: checksum,
      detail: detail.filter((part) => part !== "").join("; "),
    });
    for (const old of dropped) await this.#drop(keyOf(old));
    await audit.durable();
  }

  /** Stores a version in the place of what this node began with. */
  async #beginAgain(version: PolicyVersion, bytes: Uint8Array): Promise<void> {
    const { engine, store, onChange } = this.#parts;
    if (engine.beginning === undefined) throw conflict(engine.newestNumber, 0);
    const key = keyOf(version.number);
    const item = await store.get(key);
    const swap = await store.compareAndSwap(key, item?.version ?? 0, bytes);
    if (!swap.isSwapped) throw new WaymarkError("store_unavailable", `policy version ${version.number} was changed in the store meanwhile`);
    engine.beginAgain(version, bytes.length);
    await onChange();
  }

  /** Stores another's version in the place of what has its number here, which is kept apart first, and puts it in force. */
  async #take(version: PolicyVersion, bytes: Uint8Array, via: PolicyVia): Promise<void> {
    const { engine, store, onChange } = this.#parts;
    const before = engine.place.checksum;
    const key = keyOf(version.number);
    const item = await store.get(key);
    const old = item === undefined ? undefined : decodeFacts(item.value);
    if (item !== undefined && old?.ok === true && old.version.checksum !== version.checksum)
      await store.compareAndSwap(loserKey(old.version), 0, item.value);
    const swap = await store.compareAndSwap(key, item?.version ?? 0, bytes);
    if (!swap.isSwapped) throw new WaymarkError("store_unavailable", `policy version ${version.number} was changed in the store meanwhile`);
    const { superseded, dropped, droppedLosers } = engine.take(version, bytes.length);
    await onChange();
    tellTaken(this.#parts, { version, before, superseded, conflict: engine.status.conflict, via });
    for (const number of dropped) await this.#drop(keyOf(number));
    for (const loser of droppedLosers) await this.#drop(loserKey(loser));
    await this.#parts.audit.durable();
  }

  async #losers(): Promise<readonly VersionFacts[]> {
    const losers: VersionFacts[] = [];
    for (let after: string | undefined = SUPERSEDED; after !== undefined; ) {
      const page = await this.#parts.store.list(SUPERSEDED, { after });
      for (const { value } of page.items) {
        const facts = decodeFacts(value);
        if (facts.ok) losers.push(facts.version);
      }
      after = page.nextAfter;
    }
    return losers;
  }

  /** After what was begun before has ended, well or not. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(() => this.#parts.heard()).then(work);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  /** Versions that are in the store and were not known here: after a lost answer, or another node's. */
  async #catchUp(): Promise<void> {
    const { engine, onChange } = this.#parts;
    for (const row of await this.#rows(keyOf(engine.newestNumber))) engine.adopt(row);
    await onChange();
  }

  async #rows(start: string): Promise<readonly VersionRow[]> {
    const rows: VersionRow[] = [];
    for (let after: string | undefined = start; after !== undefined; ) {
      const page = await this.#parts.store.list(VERSIONS, { after });
      for (const { key, value } of page.items) rows.push({ number: numberOfKey(key), bytes: value });
      after = page.nextAfter;
    }
    return rows;
  }

  async #drop(key: string): Promise<void> {
    const item = await this.#parts.store.get(key);
    if (item !== undefined) await this.#parts.store.compareAndSwap(item.key, item.version, undefined);
  }

  async #inSlices<T>(work: Generator<void, T>): Promise<T> {
    for (let step = work.next(); ; step = work.next()) {
      if (step.done === true) return step.value;
      await this.#parts.pause();
    }
  }
}

function notOwned(why: string): WaymarkError {
  const need = "the caller must have the role mesh.admin, or change only rules of namespaces that it owns";
  return new WaymarkError("discovery_access_denied", `${need}: ${why}`, { metadata: { role: "mesh.admin" } });
}

function loserKey({ number, checksum }: VersionFacts): string {
  return `${SUPERSEDED}${`${number}`.padStart(12, "0")}-${checksum.slice(0, 16)}`;
}

/** Keys sort as their numbers do; those of more than 12 digits, which few will ever see, behind the others. */
function keyOf(number: number): string {
  return `${VERSIONS}${number < 1e12 ? `${number}`.padStart(12, "0") : `~${`${number}`.padStart(16, "0")}`}`;
}

function numberOfKey(key: string): number {
  return Number(key.slice(VERSIONS.length).replace("~", ""));
}
