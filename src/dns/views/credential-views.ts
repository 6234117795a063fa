/**
 * Views of callers that showed a credential (DNS over TLS or HTTP): each sees what its tenant and cluster see, from the place that its address has. The number of views is
 * bounded, because the index of a view is a byte.
 */
import { assert } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { DnsCatalog, DnsView } from "../subject/subject.ts";
import type { ViewerOfView } from "./views.ts";

/** Together with those of the settings they have room in a byte. */
const MAX_CREDENTIAL_VIEWS = 128;
/** At a resolver, where each has memory of its own for what the upstream told. */
export const MAX_FETCHING_VIEWS = 16;
/** A plan of so many generations ago was dropped long since. */
const MAX_GENERATION = 2 ** 30;

export class CredentialViews {
  readonly #firstIndex: number;
  readonly #maxCount: number;
  readonly #open: (viewer: ViewerOfView) => DnsCatalog;
  /** The one that was not asked for longest first. */
  readonly #kept = new Map<string, DnsCatalog>();

  /** `firstIndex`: the least index that no other view has. */
  constructor(firstIndex: number, open: (viewer: ViewerOfView) => DnsCatalog, maxCount = MAX_CREDENTIAL_VIEWS) {
    this.#firstIndex = firstIndex;
    this.#open = open;
    this.#maxCount = maxCount;
  }

  /** The catalog as a caller sees it. `base`: the view of its address, of which it has all but the rights. */
  find(caller: Caller, base: DnsView): DnsCatalog {
    const { tenant, cluster } = caller;
    const key = `${base.index}\0${cluster}\0${tenant}`;
    const catalog = this.#kept.get(key) ?? this.#open({ view: { ...base, ...this.#free() }, caller });
    this.#kept.delete(key);
    this.#kept.set(key, catalog);
    return catalog;
  }

  /** The next index, or that of the view that was not asked for longest. */
  #free(): Pick<DnsView, "generation" | "index"> {
    if (this.#kept.size < this.#maxCount) return { index: this.#firstIndex + this.#kept.size, generation: 0 };
    const [oldest] = this.#kept;
    assert(oldest !== undefined, "so many views are kept");
    const [key, { view }] = oldest;
    this.#kept.delete(key);
    return { index: view.index, generation: ((view.generation ?? 0) + 1) % MAX_GENERATION };
  }
}
