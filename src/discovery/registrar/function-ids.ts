/** Which names give which function_id, of what is seen and what is on its way to the disk: an id has one name in a namespace of a cluster. */
import { functionId } from "../../catalog/entry/codec.ts";
import { KeyShards } from "../../catalog/key-shards.ts";
import { BODY, type CatalogRecord, type KeyText, KIND } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";

/** What a record or stamped entry says who it is. */
export type Named = Pick<CatalogRecord, "key" | "namespace" | "name" | "traits">;

interface Said {
  readonly id: string;
  readonly name: string;
}

/** Ids kept beyond twice what is on its way to the disk, so that looking for those that arrived costs little. */
const MAX_SPARE = 64;

export class FunctionIds {
  readonly #replica: Replica;
  /** Everything up to here is indexed. */
  #revision = 0;
  /** By cluster, namespace and id: how many instances of which name say it. */
  readonly #names = new KeyShards<string, Map<string, number>>();
  readonly #ofKey = new KeyShards<KeyText, Said>();
  /** Who said an id last of those that may not be on disk yet; asked again whether it still does. */
  readonly #staged = new Map<string, { readonly key: KeyText; readonly name: string }>();

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** Takes in what changed since the last call. HOT: once a change; of all kinds but one it only asks the kind. */
  refresh(): void {
    const replica = this.#replica;
    if (this.#staged.size > MAX_SPARE + 2 * replica.staged.length) this.#forgetWritten();
    if (this.#revision === replica.revision) return;
    replica.changesSince(this.#revision, (stored) => {
      if (stored.kind === KIND.FUNCTION) this.#set(stored.key, replica.winner(stored));
      return true;
    });
    // What was dropped since then, with a forgotten origin for one, has left no change behind.
    if (this.#revision < replica.collectedRevision)
      for (const key of this.#ofKey.keys()) if (replica.view(key) === undefined) this.#set(key, undefined);
    this.#revision = replica.revision;
  }

  /** Another name that has the id where this is; of several the first in order, so that every node says the same. */
  otherName(of: Named, id: string): string | undefined {
    this.refresh();
    const place = placeOf(of, id);
    const names = [...(this.#names.get(place)?.keys() ?? [])];
    const staged = this.#staged.get(place);
    if (staged !== undefined && this.#isStaged(staged.key, id)) names.push(staged.name);
    const holder = names.toSorted()[0];
    return holder === of.name ? undefined : holder;
  }

  /** A registration that says so is accepted. */
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
