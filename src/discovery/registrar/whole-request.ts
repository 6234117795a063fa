/** Rules for the entries of one registration together, and for them and the held instances of their names. */
import { functionId, type StampedEntry } from "../../catalog/entry/codec.ts";
import { type InstanceName, sampleInstances } from "../../catalog/query/instances.ts";
import { type KeyText, KIND } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { invalid } from "../../lib/errors.ts";
import { FunctionIds } from "./function-ids.ts";

/** Most held instances that are searched for the function_id of a name. Some have none. */
const MAX_LOOKED = 100;

export class WholeRequests {
  readonly #replica: Replica;
  readonly #ids: FunctionIds;

  constructor(replica: Replica) {
    this.#replica = replica;
    this.#ids = new FunctionIds(replica);
  }

  /** Takes in changes of the replica. Frequent calls keep each one short. */
  refresh(): void {
    this.#ids.refresh();
  }

  /** Throws `invalid_argument` if the stamped entries contradict each other or held entries. */
  check(stampedEntries: readonly StampedEntry[]): void {
    checkDistinct(stampedEntries);
    const said = checkFunctionIds(this.#replica, this.#ids, stampedEntries);
    for (const [stamped, id] of said) this.#ids.note(stamped, id);
  }
}

/** Throws `invalid_argument` if two stamped entries have one key. */
function checkDistinct(stampedEntries: readonly StampedEntry[]): void {
  const seen = new Map<KeyText, number>();
  stampedEntries.forEach(({ key }, i) => {
    const twin = seen.get(key);
    if (twin !== undefined) throw invalid(`entries[${i}].key`, `is the same as entries[${twin}].key; a request may name a key once`);
    seen.set(key, i);
  });
}

/**
 * A function's name and its function_id belong together (semantics.md, Names and bounds): throws `invalid_argument` if a name gets two ids,
 * or an id two names of a namespace. Only instances of this cluster count, so that another cluster cannot block a name here. Returns the
 * ids of the stamped entries.
 */
function checkFunctionIds(replica: Replica, ids: FunctionIds, stampedEntries: readonly StampedEntry[]): ReadonlyMap<StampedEntry, string> {
  const said = new Map<StampedEntry, string>();
  const idOfName = new Map<string, string>();
  const nameOfId = new Map<string, string>();
  stampedEntries.forEach((stamped, i) => {
    if (stamped.kind !== KIND.FUNCTION) return;
    const id = functionId(stamped.content);
    if (id === "") return;
    const { namespace, name } = stamped;
    const field = `entries[${i}].function.function_id`;
    const known = idOfName.get(`${namespace}\0${name}`) ?? heldId(replica, stamped);
    if (known !== undefined && known !== id)
      throw invalid(field, `${id} is not ${known}, which ${name} has in ${namespace}; a name has one`);
    const other = nameOfId.get(`${namespace}\0${id}`);
    if (other !== undefined && other !== name) throw invalid(field, `${id} is that of ${other} in the same request; it has one name`);
    const holder = ids.otherName(stamped, id);
    if (holder !== undefined) throw invalid(field, `${id} is that of ${holder} in ${namespace}; it has one name`);
    idOfName.set(`${namespace}\0${name}`, id);
    nameOfId.set(`${namespace}\0${id}`, name);
    said.set(stamped, id);
  });
  return said;
}

/** The id of the name's other instances in this cluster. */
function heldId(replica: Replica, { key, traits, ...name }: InstanceName & Pick<StampedEntry, "key" | "traits">): string | undefined {
  const { records } = sampleInstances(replica.lookup, name, {
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
    const id = functionId(replica.slab.view(record.at, record.sizeBytes));
    if (id !== "") return id;
  }
  return undefined;
}
