/** Shares what many entries have in common, so that a record costs one small object. */
import type { Health, Traits } from "./record.ts";
import type { Scope } from "./scope.ts";

/** What filters look at; see `sameFilter`. */
export interface Filterable {
  readonly scope: Scope;
  readonly health: Health;
  readonly traits: Traits;
}

/**
 * Whether no field that can be filtered on differs: scope, health, tags, capabilities, resources, cluster, region. Decides
 * whether a change moves a record's `filterSeq`. Cost: a comparison of identities where the traits are shared.
 */
export function sameFilter(a: Filterable, b: Filterable): boolean {
  if (a.scope !== b.scope || a.health !== b.health) return false;
  if (a.traits === b.traits) return true;
  return (
    a.traits.clusterId === b.traits.clusterId &&
    a.traits.region === b.traits.region &&
    sameList(a.traits.tags, b.traits.tags) &&
    sameList(a.traits.capabilities, b.traits.capabilities) &&
    sameList(a.traits.resources, b.traits.resources)
  );
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

const NOTHING: readonly string[] = [];

/**
 * Interns traits and short texts by content. Sharing saves memory and nothing depends on it, so the pool is simply
 * emptied when it is full: unique tags from a hostile client cost a bounded map, never a growing one.
 */
export class TraitsPool {
  readonly #maxSize: number;
  readonly #traits = new Map<string, Traits>();
  readonly #texts = new Map<string, string>();

  /** Holds at most `maxSize` traits and as many texts. */
  constructor(maxSize = 65_536) {
    this.#maxSize = maxSize;
  }

  /** Traits and texts held now. */
  size(): number {
    return this.#traits.size + this.#texts.size;
  }

  /** The one copy of these traits, made if there is none. Lists given are not kept. */
  intern(fields: Traits): Traits {
    // Names cannot contain control characters, so the joined text is as good as the fields.
    const text = `${fields.nodeId}\n${fields.tenantId}\n${fields.clusterId}\n${fields.region}\n${fields.zone}\n${fields.tags.join()}\n${fields.capabilities.join()}\n${fields.resources.join()}`;
    const known = this.#traits.get(text);
    if (known !== undefined) return known;
    if (this.#traits.size >= this.#maxSize) this.#traits.clear();
    const traits: Traits = {
      tags: this.#list(fields.tags),
      capabilities: this.#list(fields.capabilities),
      resources: this.#list(fields.resources),
      clusterId: this.text(fields.clusterId),
      region: this.text(fields.region),
      zone: this.text(fields.zone),
      nodeId: this.text(fields.nodeId),
      tenantId: this.text(fields.tenantId),
    };
    this.#traits.set(text, traits);
    return traits;
  }

  /** The one copy of a text: for namespaces and names, which many keys repeat. */
  text(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= this.#maxSize) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }

  #list(items: readonly string[]): readonly string[] {
    return items.length === 0 ? NOTHING : items.map((item) => this.text(item));
  }
}
