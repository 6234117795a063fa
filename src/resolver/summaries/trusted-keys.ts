/**
 * The keys of clusters at a resolver whose settings name none: what its upstream passes on was verified there, and is believed as the catalog is (semantics.md,
 * Resolver 1). Of each cluster only the region is remembered that it last named.
 */
import type { Opened } from "../../summary/codec.ts";
import type { FollowedKeys } from "./followed-summaries.ts";

/** More clusters than any node takes summaries of. */
const MAX_CLUSTERS = 1024;

export class TrustedKeys implements FollowedKeys {
  readonly #regions = new Map<string, string>();

  note(content: Opened): void {
    if (content.what === "key") return;
    const { source, region } =
      content.what === "beacon" ? content.beacon : { ...content.summary, region: content.summary.regions[0] ?? "" };
    if (region === "" || this.#regions.get(source) === region) return;
    if (this.#regions.size >= MAX_CLUSTERS) this.#regions.clear();
    this.#regions.set(source, region);
  }

  regionOf(cluster: string): string | undefined {
    return this.#regions.get(cluster);
  }

  allRegions(): Iterable<string> {
    return this.#regions.values();
  }

  hasKeys(): boolean {
    return false;
  }

  refusal(): undefined {
    return undefined;
  }

  counts(): boolean {
    return true;
  }

  announcements(): readonly [] {
    return [];
  }

  announce(): undefined {
    return undefined;
  }

  tick(): void {
    // No key begins or ends.
  }

  version(): number {
    return 0;
  }

  changedSince(): readonly string[] {
    return [];
  }
}
