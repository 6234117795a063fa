/**
 * Views for callers that authenticated with a credential (DNS over TLS or HTTPS). Each caller sees the data that its tenant and cluster may see. Its
 * locality depends on its address. The number of views is bounded, because the index of a view is one byte.
 */
import { assert } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { DnsCatalog, DnsView } from "../subject/subject.ts";
import type { ViewerOfView } from "./views.ts";

/** The indexes of these views and of the configured views must fit into one byte. */
const MAX_CREDENTIAL_VIEWS = 128;
/** The limit on a resolver, where each view uses its own memory for upstream results. */
export const MAX_FETCHING_VIEWS = 16;
/** Generations wrap around here. Plans of the earlier view with the same number were removed long before. */
const MAX_GENERATION = 2 ** 30;

export class CredentialViews {
  readonly #firstIndex: number;
  readonly #maxCount: number;
  readonly #open: (viewer: ViewerOfView) => DnsCatalog;
  /** Least recently used first. */
  readonly #kept = new Map<string, DnsCatalog>();

  /** `firstIndex` is the lowest index that no other view uses. */
  constructor(firstIndex: number, open: (viewer: ViewerOfView) => DnsCatalog, maxCount = MAX_CREDENTIAL_VIEWS) {
    this.#firstIndex = firstIndex;
    this.#open = open;
    this.#maxCount = maxCount;
  }

  /** Returns the catalog as seen by a caller. `base` is the view of the caller's address, which determines everything except the permissions. */
  find(caller: Caller, base: DnsView): DnsCatalog {
    const { tenant, cluster } = caller;
    const key = `${base.index}\0${cluster}\0${tenant}`;
    const catalog = this.#kept.get(key) ?? this.#open({ view: { ...base, ...this.#free() }, caller });
    this.#kept.delete(key);
    this.#kept.set(key, catalog);
    return catalog;
  }

  /** Returns the next unused index, or the index of the least recently used view, which is removed. */
  #free(): Pick<DnsView, "generation" | "index"> {
    if (this.#kept.size < this.#maxCount) return { index: this.#firstIndex + this.#kept.size, generation: 0 };
    const [oldest] = this.#kept;
    assert(oldest !== undefined, "the set of views is full but has no oldest view");
    const [key, { view }] = oldest;
    this.#kept.delete(key);
    return { index: view.index, generation: ((view.generation ?? 0) + 1) % MAX_GENERATION };
  }
}
