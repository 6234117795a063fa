/** A DNS name of more instances and aliases than any answer has room for, in a catalog that counts what is looked up. */
import type { EntryView } from "../../src/catalog/entry/view.ts";
import { entryView, FakeDnsCatalog } from "./dns-catalog.ts";

export const ALIASES = 300;
export const INSTANCES = 100;
export const aliasNames = Array.from({ length: ALIASES }, (_, i) => `x${i}.al`);

/** Counts look-ups; with `samples` a name has one entry at a time, as if it had been sampled. */
export class CountingCatalog extends FakeDnsCatalog {
  readonly #samples: readonly EntryView[];
  lookupCount = 0;
  #isSample = false;

  constructor(entries: readonly EntryView[], samples: readonly EntryView[] = []) {
    super([...entries, ...samples]);
    this.#samples = samples;
  }

  override find(...args: Parameters<FakeDnsCatalog["find"]>): readonly EntryView[] {
    this.lookupCount++;
    const found = super.find(...args);
    if (this.#samples.length === 0 || found.length < 2) return found;
    this.#isSample = true;
    return [this.#samples[this.lookupCount % this.#samples.length] ?? entryView({ name: "none" })];
  }

  override takeSampled(): boolean {
    const isSample = this.#isSample;
    this.#isSample = false;
    return isSample;
  }
}

/** A name of a hundred instances, the first with all the aliases. */
export function crowd(name = "web", aliases: readonly string[] = aliasNames): EntryView[] {
  return Array.from({ length: INSTANCES }, (_, i) =>
    entryView({
      name,
      instanceId: `i${i}`,
      nodeId: `n${i}`,
      targets: [{ host: `10.0.0.${i}` }],
      aliases: i === 0 ? aliases : [],
    }),
  );
}
