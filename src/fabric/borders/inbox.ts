/** What came over one border link and is not looked at yet, in the order in which it came: a frame may have more seals than can be verified at once. */
import type { Sealed } from "../../summary/summary.ts";
import type { BorderFrame } from "../wire/messages.ts";

type Batch = Extract<BorderFrame, { readonly kind: "borderBatch" }>;
type Comparison = Extract<BorderFrame, { readonly kind: "borderDigest" | "borderHave" }>;

export type Item =
  | { readonly what: "key" | "summary"; readonly sealed: Sealed }
  /** Until it came it had this age. */
  | { readonly what: "beacon"; readonly sealed: Sealed; readonly ageMs: number; readonly cameMonoMs: number }
  /** What is compared is about the summaries before it. */
  | { readonly what: "comparison"; readonly frame: Comparison };

/** While so much waits the link is not read. A frame has less. */
const MAX_ITEMS = 500;
const MAX_BYTES = 256 * 1024;
/** Of half as many the link is not read either, and more are dropped. The lists of all that a node may hold are fewer frames. */
const MAX_COMPARISONS = 100;

export class Inbox {
  #items: Item[] = [];
  /** Of the next one. */
  #at = 0;
  #sizeBytes = 0;
  #comparisons = 0;

  get isEmpty(): boolean {
    return this.#at === this.#items.length;
  }

  get isCrowded(): boolean {
    if (this.#comparisons > MAX_COMPARISONS / 2) return true;
    return this.#items.length - this.#at > MAX_ITEMS || this.#sizeBytes > MAX_BYTES;
  }

  /** `cameMonoMs`: when it came to this node, which may be before it was read. */
  addBatch({ keys, beacons, beaconAgesMs, summaries }: Batch, cameMonoMs: number): void {
    for (const sealed of keys) this.#add({ what: "key", sealed });
    for (const [n, sealed] of beacons.entries()) this.#add({ what: "beacon", sealed, ageMs: beaconAgesMs[n] ?? 0, cameMonoMs });
    for (const sealed of summaries) this.#add({ what: "summary", sealed });
  }

  /** Returns whether there was room. */
  addComparison(frame: Comparison): boolean {
    if (this.#comparisons >= MAX_COMPARISONS) return false;
    this.#comparisons += 1;
    this.#add({ what: "comparison", frame });
    return true;
  }

  take(): Item | undefined {
    const item = this.#items[this.#at];
    if (item === undefined) return undefined;
    this.#at += 1;
    this.#sizeBytes -= sizeOf(item);
    this.#comparisons -= Number(item.what === "comparison");
    // What was taken goes, also where there is always more.
    if (this.isEmpty || this.#at >= MAX_ITEMS) {
      this.#items = this.#items.slice(this.#at);
      this.#at = 0;
    }
    return item;
  }

  #add(item: Item): void {
    this.#items.push(item);
    this.#sizeBytes += sizeOf(item);
  }
}

function sizeOf(item: Item): number {
  if (item.what !== "comparison") return item.sealed.signed.length;
  // A number of 64 bits for each.
  return 8 * (item.frame.buckets.length + (item.frame.kind === "borderHave" ? 2 * item.frame.hashes.length : 0));
}
