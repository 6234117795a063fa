/**
 * Puts this node's entries: stamped entries become staged records, and their keys are attached to leases. Steps to undo these changes if the batch
 * fails are added to the undo log.
 */

import { type CheckState, carriedStates, checksOf, reportedOf } from "../../catalog/entry/checks.ts";
import { type EntryStamper, finishEntry, functionId, type StampedEntry, withHealthInputs } from "../../catalog/entry/codec.ts";
import type { HealthInputs } from "../../catalog/entry/edit.ts";
import { type LoadView, readRegisteredMs } from "../../catalog/entry/view.ts";
import { KeyShards } from "../../catalog/key-shards.ts";
import type { Leases } from "../../catalog/leases.ts";
import { type InstanceName, sampleInstances } from "../../catalog/query/instances.ts";
import { lastingOverride, type MaintenanceOverrides, overridesFor, overridesOf } from "../../catalog/record/maintenance.ts";
import { BODY, type CatalogRecord, HEALTH, type Health, type KeyText, KIND } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { sameFilter } from "../../catalog/record/traits.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { compareForView } from "../../catalog/replica/view.ts";
import { invalid } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { timeOf } from "../../lib/protowire.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { type EntryRemovalParts, newestHlc } from "./entry-removals.ts";

export interface PutParts extends Pick<EntryRemovalParts, "gate" | "hlc" | "leases" | "loads" | "replica" | "undo"> {
  readonly stamper: EntryStamper;
  /** Called when a lease has lost its last key to another lease. */
  readonly onEmptied: (leaseId: string) => void;
  /** Called with the overrides that apply to one of this node's entries from now on. */
  readonly onOrders: (key: KeyText, orders: MaintenanceOverrides, time: Time) => void;
}

/** The lease to which a put attaches a key. */
export interface PutLease {
  readonly id: string;
  /** Whether the same call granted the lease, so that undoing the grant also removes its keys. */
  readonly isNew: boolean;
}

export class EntryPuts {
  readonly #parts: PutParts;
  readonly #replica: Replica;
  readonly #leases: Leases;
  /** Keys whose row must be written again even though their record is unchanged, because they moved to another lease. */
  readonly moved = new Set<KeyText>();

  constructor(parts: PutParts) {
    this.#parts = parts;
    this.#replica = parts.replica;
    this.#leases = parts.leases;
  }

  /** Puts a client's entry under a lease. Does not create a new record if readers already see the same content. */
  put(caller: Caller, stamped: StampedEntry, lease: PutLease, time: Time): void {
    const own = this.#replica.own(stamped.key);
    const isLive = own !== undefined && own.body === BODY.ENTRY;
    const isOwn = isLive && own.principal === caller.principal && this.#isSeen(own);
    this.attach(stamped.key, lease, isLive);
    const { principal } = caller;
    const orders = overridesFor(principal, this.#replica.newestOrders(stamped.key));
    const put = this.#asShown(stamped, isLive ? own : undefined, shownOf(orders, principal, time));
    const isSame = isOwn && own.orders === orders && this.#replica.slab.equals(own.at, own.contentBytes, put.content);
    if (!isSame) this.#stage(put, { before: isLive ? own : undefined, principal, load: put.load, orders }, time);
  }

  /**
   * Whether readers see this node's record, or will see it once it is on disk. A staged record that keeps its stamp may be superseded by another
   * node's record.
   */
  #isSeen(own: StoredRecord): boolean {
    if (own.revision !== 0) return this.#replica.view(own.key) === own;
    return this.#replica.records(own.key).every((record) => record.origin === own.origin || compareForView(own, record) < 0);
  }

  /** Puts the unchanged entry again with a new stamp, because its client renewed it while it was hidden. */
  rewrite(key: KeyText, time: Time): void {
    this.#rewrite(key, time, { change: unchanged, keepsStamp: false });
  }

  // The methods below do not register an entry again, so its record keeps its stamp. Without this node's knowledge, the key may have been registered
  // on another node since then, and a later stamp would supersede that registration.

  /** Puts the entry again with the load that its client reported, and with the reported health if given. */
  reported(key: KeyText, health: Health | undefined, time: Time): void {
    const change = (own: StoredRecord) => (health === undefined ? undefined : { ...this.#inputsOf(own), reported: health });
    this.#rewrite(key, time, { change });
  }

  /** Puts the entry again with the given overrides or, by default, the newest known overrides for its key, as they apply now. */
  rewriteWithOverrides(key: KeyText, time: Time, orders?: MaintenanceOverrides): void {
    this.#rewrite(key, time, { change: unchanged, orders });
  }

  /** Puts an entry with checks again, with the new result of each check. */
  found(key: KeyText, states: readonly CheckState[], time: Time): void {
    const change = (own: StoredRecord) => {
      const inputs = this.#inputsOf(own);
      return inputs.checkCount === states.length ? { ...inputs, states } : undefined;
    };
    this.#rewrite(key, time, { change });
  }

  /** Returns the health that the client last reported for one of this node's records, without the effect of checks and overrides. */
  healthOf(own: StoredRecord): Health {
    return this.#inputsOf(own).reported;
  }

  #rewrite(key: KeyText, time: Time, { change, orders: given, keepsStamp = true }: RewriteOptions): void {
    const { stamper, loads } = this.#parts;
    const own = this.#replica.own(key);
    if (own === undefined || own.body !== BODY.ENTRY) return;
    const stored = stamper.entryOfStored(this.#bytesOf(own));
    const orders = given ?? overridesOf(own, this.#replica.newestOrders(key));
    const changed = change(own);
    const stamped =
      changed === undefined && own.orders === undefined && orders === undefined
        ? stored
        : withHealthInputs(stored, { ...(changed ?? this.#inputsOf(own)), maintenance: shownOf(orders, own.principal, time) });
    this.#stage(stamped, { before: own, principal: own.principal, load: loads.of(key) ?? stored.load, orders, keepsStamp }, time);
  }

  /**
   * Returns a client's entry as readers see it: with the states of checks that did not change, and with the maintenance that is in force
   * for its key. A new registration must not hide either of them.
   */
  #asShown(stamped: StampedEntry, own: StoredRecord | undefined, maintenance: HealthInputs["maintenance"]): StampedEntry {
    const before = stamped.hasChecks && own?.mayHaveChecks === true ? checksOf(this.#bytesOf(own)) : undefined;
    const hasStates = before !== undefined && before.checks.length > 0;
    if (!hasStates && maintenance === undefined) return stamped;
    const states = hasStates ? carriedStates(checksOf(stamped.content), before) : [];
    return withHealthInputs(stamped, { reported: stamped.health, states, maintenance });
  }

  /** Returns the health inputs of one of this node's records, except its maintenance. HOT: usually only two bits are read. */
  #inputsOf(own: StoredRecord): Omit<HealthInputs, "maintenance"> & { readonly checkCount: number } {
    if (!own.mayHaveChecks && own.orders === undefined && own.health !== HEALTH.MAINTENANCE)
      return { reported: own.health, states: [], checkCount: 0 };
    const checked = checksOf(this.#bytesOf(own));
    return { reported: reportedOf(checked), states: checked.checkStates, checkCount: checked.checks.length };
  }

  #bytesOf(own: StoredRecord): Uint8Array {
    return this.#replica.slab.view(own.at, own.sizeBytes);
  }

  /** Moves a key to a lease. `isLive`: whether the key has an entry, whose row contains the lease id. */
  attach(key: KeyText, { id, isNew }: PutLease, isLive: boolean): void {
    if (this.#leases.leaseOf(key) === id) return;
    const { undo, onEmptied } = this.#parts;
    const old = this.#leases.attach(id, key);
    if (old === undefined) {
      if (!isNew) undo.push(() => this.#leases.detach(key));
      return;
    }
    undo.push(() => this.#leases.has(old) && this.#leases.attach(old, key));
    if (isLive) this.moved.add(key);
    // A lease that loses its last key to a new lease ends, and its next renewal reports this.
    if (this.#leases.find(old)?.keyCount === 0) onEmptied(old);
  }

  #stage(stamped: StampedEntry, { before, principal, load, orders, keepsStamp = false }: PutDetails, time: Time): void {
    const { gate, hlc, onOrders } = this.#parts;
    const { slab } = this.#replica;
    const sinceMs = before === undefined ? time.wallMs : readRegisteredMs(slab.view(before.at, before.sizeBytes), before.contentBytes);
    const bytes = finishEntry(stamped.content, { registeredWallMs: sinceMs, updatedWallMs: time.wallMs, load });
    gate.stage(stamped.key, stamped);
    if (orders !== undefined) onOrders(stamped.key, orders, time);
    this.#replica.stagePut({
      key: stamped.key,
      namespace: stamped.namespace,
      name: stamped.name,
      kind: stamped.kind,
      hlc: keepsStamp && before !== undefined ? before.hlc : hlc.stampAbove(newestHlc(this.#replica, stamped.key), time.wallMs),
      scope: stamped.scope,
      health: stamped.health,
      traits: stamped.traits,
      principal,
      hasAliases: stamped.hasAliases,
      hasChecks: stamped.hasChecks,
      orders,
      contentBytes: stamped.content.length,
      bytes,
      isFilterChange: before === undefined || !sameFilter(before, stamped),
    });
  }
}

/** The data that a put needs in addition to the stamped entry. */
interface PutDetails {
  /** This node's live record of the key. */
  readonly before: StoredRecord | undefined;
  readonly principal: string;
  readonly load: LoadView | undefined;
  readonly orders: MaintenanceOverrides | undefined;
  /** Whether the new record keeps the stamp of `before`. */
  readonly keepsStamp?: boolean;
}

/** Options for putting an entry again. */
interface RewriteOptions {
  /** Returns the new health inputs. Undefined if the inputs do not change. */
  readonly change: (own: StoredRecord) => Omit<HealthInputs, "maintenance"> | undefined;
  /** The overrides to apply. Defaults to the newest known overrides. */
  readonly orders?: MaintenanceOverrides | undefined;
  /** Default: true. */
  readonly keepsStamp?: boolean;
}

function unchanged(): undefined {
  return undefined;
}

/** Returns the maintenance that an entry shows. Undefined if no override is in force. */
function shownOf(orders: MaintenanceOverrides | undefined, principal: string, { wallMs }: Time): HealthInputs["maintenance"] {
  const order = lastingOverride(orders, principal, wallMs);
  if (order === undefined) return undefined;
  return { reason: order.reason, until: order.untilMs === 0 ? undefined : timeOf(order.untilMs) };
}

// Indexes names by function_id, for visible and staged entries. Within a namespace of a cluster, an id has only one name.

/** The fields that identify a record or stamped entry. */
type NamedRecord = Pick<CatalogRecord, "key" | "namespace" | "name" | "traits">;

interface FunctionId {
  readonly id: string;
  readonly name: string;
}

/** Maximum number of ids kept beyond twice the number of staged records, so that the search for durable ids is cheap. */
const MAX_SPARE = 64;
/** Maximum number of instances that are searched for the function_id of a name. Some instances have no function_id. */
const MAX_LOOKED = 100;

export class FunctionIds {
  readonly #replica: Replica;
  /** Everything up to this revision is indexed. */
  #revision = 0;
  /** The number of instances for each name, indexed by cluster, namespace and ID. */
  readonly #names = new KeyShards<string, Map<string, number>>();
  readonly #ofKey = new KeyShards<KeyText, FunctionId>();
  /** The last entry registered with each id, possibly not on disk yet. The entry's record is read again to check whether it still has the ID. */
  readonly #staged = new Map<string, { readonly key: KeyText; readonly name: string }>();

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** Applies the changes since the last call. HOT: once per change, but only the kind is read unless the record is a function. */
  refresh(): void {
    const replica = this.#replica;
    if (this.#staged.size > MAX_SPARE + 2 * replica.staged.length) this.#forgetWritten();
    if (this.#revision === replica.revision) return;
    replica.changesSince(this.#revision, (stored) => {
      if (stored.kind === KIND.FUNCTION) this.#set(stored.key, replica.winner(stored));
      return true;
    });
    // Records that were dropped since the last call, for example because their origin was forgotten, are not included in the changes.
    if (this.#revision < replica.collectedRevision)
      for (const key of this.#ofKey.keys()) if (replica.view(key) === undefined) this.#set(key, undefined);
    this.#revision = replica.revision;
  }

  /**
   * Checks that a name has one function_id, and that an id has one name in a namespace (semantics.md, Names and bounds). Throws `invalid_argument` if
   * the entries of a registration conflict with each other or with registered entries. Only instances in this cluster are compared, so that another
   * cluster cannot block a name in this one. Records the ids of accepted entries.
   */
  check(stampedEntries: readonly StampedEntry[]): void {
    const accepted = new Map<StampedEntry, string>();
    const idOfName = new Map<string, string>();
    const nameOfId = new Map<string, string>();
    stampedEntries.forEach((stamped, i) => {
      if (stamped.kind !== KIND.FUNCTION) return;
      const id = functionId(stamped.content);
      if (id === "") return;
      const { namespace, name } = stamped;
      const field = `entries[${i}].function.function_id`;
      const known = idOfName.get(`${namespace}\0${name}`) ?? this.#heldId(stamped);
      if (known !== undefined && known !== id)
        throw invalid(
          field,
          `is ${id}, but ${name} in ${namespace} has the id ${known}; all instances of a function must have the same id`,
        );
      const other = nameOfId.get(`${namespace}\0${id}`);
      if (other !== undefined && other !== name)
        throw invalid(field, `${id} is the id of ${other} in the same request; an id can belong to only one name`);
      const holder = this.otherName(stamped, id);
      if (holder !== undefined) throw invalid(field, `${id} is the id of ${holder} in ${namespace}; an id can belong to only one name`);
      idOfName.set(`${namespace}\0${name}`, id);
      nameOfId.set(`${namespace}\0${id}`, name);
      accepted.set(stamped, id);
    });
    for (const [stamped, id] of accepted) this.note(stamped, id);
  }

  /** Returns the function_id of the name's other instances in this cluster. */
  #heldId({ key, traits, ...name }: InstanceName & Pick<StampedEntry, "key" | "traits">): string | undefined {
    const { records } = sampleInstances(this.#replica.lookup, name, {
      form: "stretch",
      at: 0,
      rank: (record) => (record.traits.clusterId === traits.clusterId ? 0 : 1),
      ideal: 0,
      fit: 0,
      wanted: 1,
      most: MAX_LOOKED,
    });
    for (const record of records) {
      if (record.key === key || record.traits.clusterId !== traits.clusterId) continue;
      const id = this.#idOf(record);
      if (id !== "") return id;
    }
    return undefined;
  }

  /**
   * Returns another name with this id in the same cluster and namespace. If there are several, returns the first in sort order, so that every node
   * returns the same name.
   */
  otherName(of: NamedRecord, id: string): string | undefined {
    this.refresh();
    const place = scopedId(of, id);
    const names = [...(this.#names.get(place)?.keys() ?? [])];
    const staged = this.#staged.get(place);
    if (staged !== undefined && this.#isStaged(staged.key, id)) names.push(staged.name);
    const holder = names.toSorted()[0];
    return holder === of.name ? undefined : holder;
  }

  /** Records an accepted registration of the id. */
  note(of: NamedRecord, id: string): void {
    this.#staged.set(scopedId(of, id), { key: of.key, name: of.name });
  }

  #forgetWritten(): void {
    for (const [place, { key }] of this.#staged) if (this.#replica.own(key)?.revision !== 0) this.#staged.delete(place);
  }

  #isStaged(key: KeyText, id: string): boolean {
    const own = this.#replica.own(key);
    return own !== undefined && own.revision === 0 && own.body === BODY.ENTRY && this.#idOf(own) === id;
  }

  #set(key: KeyText, shown: CatalogRecord | undefined): void {
    const before = this.#ofKey.get(key);
    const id = shown === undefined ? "" : this.#idOf(shown);
    const place = shown === undefined || id === "" ? "" : scopedId(shown, id);
    if (before?.id === place) return;
    if (before !== undefined) this.#count(before, -1);
    if (shown === undefined || place === "") {
      this.#ofKey.replace(key, undefined);
      return;
    }
    const current = { id: place, name: shown.name };
    this.#ofKey.replace(key, current);
    this.#count(current, 1);
  }

  #count({ id, name }: FunctionId, by: number): void {
    const names = this.#names.get(id) ?? new Map<string, number>();
    const count = (names.get(name) ?? 0) + by;
    if (count === 0) names.delete(name);
    else names.set(name, count);
    this.#names.replace(id, names.size === 0 ? undefined : names);
  }

  #idOf(record: CatalogRecord): string {
    return functionId(this.#replica.slab.view(record.at, record.sizeBytes));
  }
}

function scopedId({ namespace, traits }: NamedRecord, id: string): string {
  return `${traits.clusterId}\0${namespace}\0${id}`;
}
