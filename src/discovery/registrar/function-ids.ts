/** The names that have each function_id, among visible and staged entries: an id belongs to one name in a namespace of a cluster. */
import { functionId, type StampedEntry } from "../../catalog/entry/codec.ts";
import { KeyShards } from "../../catalog/key-shards.ts";
import { type InstanceName, sampleInstances } from "../../catalog/query/instances.ts";
import { BODY, type CatalogRecord, type KeyText, KIND } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { invalid } from "../../lib/errors.ts";

/** The fields that identify a record or stamped entry. */
export type Named = Pick<CatalogRecord, "key" | "namespace" | "name" | "traits">;

interface Said {
  readonly id: string;
  readonly name: string;
}

/** Most ids that are kept beyond twice the number of staged ones, so that searching for durable ones costs little. */
const MAX_SPARE = 64;
/** Most held instances that are searched for the function_id of a name. Some have none. */
const MAX_LOOKED = 100;

export class FunctionIds {
  readonly #replica: Replica;
  /** Everything up to this revision is indexed. */
  #revision = 0;
  /** By cluster, namespace and id: the number of instances for each name. */
  readonly #names = new KeyShards<string, Map<string, number>>();
  readonly #ofKey = new KeyShards<KeyText, Said>();
  /** The last entry with an id that may not be on disk yet. It is asked again whether it still has the id. */
  readonly #staged = new Map<string, { readonly key: KeyText; readonly name: string }>();

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** Takes in the changes since the last call. HOT: once a change; for all kinds but one it only reads the kind. */
  refresh(): void {
    const replica = this.#replica;
    if (this.#staged.size > MAX_SPARE + 2 * replica.staged.length) this.#forgetWritten();
    if (this.#revision === replica.revision) return;
    replica.changesSince(this.#revision, (stored) => {
      if (stored.kind === KIND.FUNCTION) this.#set(stored.key, replica.winner(stored));
      return true;
    });
    // Records that were dropped since then, for example with a forgotten origin, have left no change behind.
    if (this.#revision < replica.collectedRevision)
      for (const key of this.#ofKey.keys()) if (replica.view(key) === undefined) this.#set(key, undefined);
    this.#revision = replica.revision;
  }

  /**
   * A function's name and its function_id belong together (semantics.md, Names and bounds): throws `invalid_argument` if the stamped entries of one
   * registration, or they and held entries, give a name two ids, or an id two names of a namespace. Only instances of this cluster count, so that
   * another cluster cannot block a name here. Notes the ids of accepted entries.
   */
  check(stampedEntries: readonly StampedEntry[]): void {
    const said = new Map<StampedEntry, string>();
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
        throw invalid(field, `${id} is not ${known}, which ${name} has in ${namespace}; a name has one`);
      const other = nameOfId.get(`${namespace}\0${id}`);
      if (other !== undefined && other !== name) throw invalid(field, `${id} is that of ${other} in the same request; it has one name`);
      const holder = this.otherName(stamped, id);
      if (holder !== undefined) throw invalid(field, `${id} is that of ${holder} in ${namespace}; it has one name`);
      idOfName.set(`${namespace}\0${name}`, id);
      nameOfId.set(`${namespace}\0${id}`, name);
      said.set(stamped, id);
    });
    for (const [stamped, id] of said) this.note(stamped, id);
  }

  /** The id of the name's other instances in this cluster. */
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

  /** Another name with this id in the same place. Of several the first in order, so that every node gives the same one. */
  otherName(of: Named, id: string): string | undefined {
    this.refresh();
    const place = placeOf(of, id);
    const names = [...(this.#names.get(place)?.keys() ?? [])];
    const staged = this.#staged.get(place);
    if (staged !== undefined && this.#isStaged(staged.key, id)) names.push(staged.name);
    const holder = names.toSorted()[0];
    return holder === of.name ? undefined : holder;
  }

  /** Notes an accepted registration of the id. */
  note(of: Named, id: string): void {
    this.#staged.set(placeOf(of, id), { key: of.key, name: of.name });
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
    const place = shown === undefined || id === "" ? "" : placeOf(shown, id);
    if (before?.id === place) return;
    if (before !== undefined) this.#count(before, -1);
    if (shown === undefined || place === "") {
      this.#ofKey.replace(key, undefined);
      return;
    }
    const said = { id: place, name: shown.name };
    this.#ofKey.replace(key, said);
    this.#count(said, 1);
  }

  #count({ id, name }: Said, by: number): void {
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

function placeOf({ namespace, traits }: Named, id: string): string {
  return `${traits.clusterId}\0${namespace}\0${id}`;
}
