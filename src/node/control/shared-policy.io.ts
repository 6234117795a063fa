/**
 * The policy in the control store that the nodes share. A version is put there before it is in force anywhere, and other nodes take it from there,
 * as they take it from links. Each node keeps its own versions, so it knows its policy without the store.
 */
import { setTimeout as wait } from "node:timers/promises";
import { decodeStore, STORE_KEY } from "../../control/leadership/records.ts";
import { POLICY_BOUNDS } from "../../lib/bounds.ts";
import { rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import { decodeFacts } from "../../policy/versions/codec.ts";
import { isNewer, isSamePlace, NO_PLACE, type VersionPlace } from "../../policy/versions/version.ts";
import type { ControlStore, StoreWatch, StoreWrite } from "../../store/control/store.ts";

/** The heads of the versions. A head is written after all parts of its version. */
const HEADS = "policy/";
const PARTS = "policy-parts/";
/** Maximum size of a part, so that each store accepts it. */
const PART_BYTES = 512 * 1024;
const MAX_PARTS = POLICY_BOUNDS.maxVersionBytes / PART_BYTES;
/** Number of versions that the store keeps. */
const KEPT = 16;
/** Time until the watch is tried again after a failure. */
const RETRY_MS = 200;

export interface SharedPolicyPorts {
  readonly store: ControlStore;
  readonly clusterId: string;
  /** The newest version on this node. */
  readonly place: () => VersionPlace;
  /** The newest version on this node in encoded form. */
  readonly encoded: (number: number) => Promise<Uint8Array | undefined>;
  /** Applies a version that another node put into the store. */
  readonly adopt: (place: VersionPlace, bytes: Uint8Array) => Promise<void>;
  /** Called with the reason why the store and this node could not be compared. */
  readonly onFault: (error: unknown) => void;
}

export class SharedPolicy {
  readonly #ports: SharedPolicyPorts;
  readonly #watch: StoreWatch;
  #newest = NO_PLACE;
  #isComplete = false;
  #isClosed = false;
  /** Whether a comparison is running, and whether another one must follow it. */
  #isComparing = false;
  #isAgain = false;

  constructor(ports: SharedPolicyPorts) {
    this.#ports = ports;
    this.#watch = ports.store.watch(HEADS, 0);
  }

  /** Follows the store until `close`. */
  async run(): Promise<void> {
    while (!this.#isClosed) {
      try {
        const found = await this.#watch.next();
        if (found === undefined) return;
        for (const { item } of found.changes) {
          const place = item && readPlace(item.value);
          if (place !== undefined && isNewer(place, this.#newest)) this.#newest = place;
        }
        if (found.isCurrent) this.#isComplete = true;
        this.compare();
      } catch (error) {
        rethrowInvariant(error);
        if (this.#isClosed) return;
        this.#ports.onFault(error);
        await wait(RETRY_MS, undefined, { ref: false });
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#watch.close();
  }

  /** Compares the store with this node, and tries again until that succeeds. */
  compare(): void {
    this.#isAgain = true;
    if (!this.#isComparing) void this.#compareUntilEqual();
  }

  async #compareUntilEqual(): Promise<void> {
    this.#isComparing = true;
    while (this.#isAgain && this.#isComplete && !this.#isClosed) {
      this.#isAgain = false;
      try {
        await checkOwner(this.#ports.store, this.#ports.clusterId);
        await this.#compareOnce();
      } catch (error) {
        rethrowInvariant(error);
        this.#ports.onFault(error);
        this.#isAgain = true;
        await wait(RETRY_MS, undefined, { ref: false });
      }
    }
    this.#isComparing = false;
  }

  /** Applies the newest version from the store, or puts this node's newest version there if that is newer. */
  async #compareOnce(): Promise<void> {
    const here = this.#ports.place();
    if (isNewer(this.#newest, here)) {
      const bytes = await this.#read(this.#newest);
      if (bytes !== undefined) await this.#ports.adopt(this.#newest, bytes);
    } else if (isNewer(here, this.#newest)) {
      const bytes = await this.#ports.encoded(here.number);
      if (bytes !== undefined) await publishPolicy(this.#ports.store, here.number, bytes, { replacesOlder: true });
    }
  }

  async #read(place: VersionPlace): Promise<Uint8Array | undefined> {
    const parts: Uint8Array[] = [];
    for (let at = 0; at < MAX_PARTS; at++) {
      const item = await this.#ports.store.get(partKey(place, at));
      if (item === undefined) break;
      parts.push(item.value);
    }
    return parts.length === 0 ? undefined : Buffer.concat(parts);
  }
}

/** Rejects with `store_unavailable` if the store belongs to another cluster, or to none yet. */
export async function checkOwner(store: Pick<ControlStore, "get">, clusterId: string): Promise<void> {
  const item = await store.get(STORE_KEY);
  const owner = item && decodeStore(item.value)?.clusterId;
  if (owner === clusterId) return;
  const why = item === undefined ? "is new" : owner === undefined ? "has an unreadable record" : `belongs to the cluster ${owner}`;
  throw new WaymarkError("store_unavailable", `the control store ${why}, so its policy is not used`);
}

/** The methods of a store that putting a version there needs. */
type PolicyTarget = Pick<ControlStore, "compareAndSwap" | "get" | "list" | "transact">;

/**
 * Puts a version into the store, unless it has another version of this number. With `replacesOlder`, an older version of this number is replaced.
 * Returns whether the store has this version now. Rejects with `store_unavailable` if the store does not answer.
 */
export async function publishPolicy(
  store: PolicyTarget,
  number: number,
  bytes: Uint8Array,
  { replacesOlder = false } = {},
): Promise<boolean> {
  const read = decodeFacts(bytes);
  if (!read.ok) throw new WaymarkError("internal", `policy version ${number} cannot be read: ${read.fault}`);
  const { hlc, nodeId, checksum } = read.version;
  const place = { number, hlc, nodeId, checksum };
  const held = await store.get(keyOf(number));
  const heldPlace = held && readPlace(held.value);
  if (heldPlace !== undefined && isSamePlace(place, heldPlace)) return true;
  if (heldPlace !== undefined && !(replacesOlder && isNewer(place, heldPlace))) return false;
  for (let at = 0; at * PART_BYTES < bytes.length; at++) {
    const value = bytes.subarray(at * PART_BYTES, (at + 1) * PART_BYTES);
    await store.transact([], [{ key: partKey(place, at), value }]);
  }
  const head = { hlc, node_id: nodeId, checksum, bytes: bytes.length };
  const value = new TextEncoder().encode(JSON.stringify({ number, ...head }));
  const { isSwapped } = await store.compareAndSwap(keyOf(number), held?.version ?? 0, value);
  if (isSwapped) await drop(store, number - KEPT).catch(rethrowInvariant);
  return isSwapped;
}

/** Removes a version that is no longer kept. A failure is not an error: the next version removes another one. */
async function drop(store: PolicyTarget, number: number): Promise<void> {
  if (number < 1) return;
  const { items } = await store.list(`${PARTS}${padded(number)}/`);
  const removals: StoreWrite[] = items.slice(0, 99).map(({ key }) => ({ key, value: undefined }));
  await store.transact([], [{ key: keyOf(number), value: undefined }, ...removals]);
}

function padded(number: number): string {
  return `${number}`.padStart(16, "0");
}

function keyOf(number: number): string {
  return HEADS + padded(number);
}

/** The parts of two versions of the same number have different keys. */
function partKey({ number, hlc, nodeId, checksum }: VersionPlace, at: number): string {
  return `${PARTS}${padded(number)}/${hlc}-${nodeId}-${checksum.slice(0, 16)}/${`${at}`.padStart(4, "0")}`;
}

/** Returns undefined for a head that cannot be read. */
function readPlace(value: Uint8Array): VersionPlace | undefined {
  try {
    const head = JSON.parse(new TextDecoder().decode(value)) as Record<string, unknown>; // oxlint-disable-line typescript/no-unsafe-type-assertion -- every field is checked
    const { number, hlc, node_id: nodeId, checksum } = head;
    if (!Number.isSafeInteger(number) || !Number.isSafeInteger(hlc)) return undefined;
    if (typeof number !== "number" || typeof hlc !== "number" || typeof nodeId !== "string" || typeof checksum !== "string")
      return undefined;
    return { number, hlc, nodeId, checksum };
  } catch {
    return undefined;
  }
}
