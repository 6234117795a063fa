/**
 * The policy that a resolver applies to its callers. The resolver receives policy versions from its upstream and selects the version in force as a
 * node does (semantics.md, Resolver 15).
 */
import { BoundedMap } from "../../lib/bounded-map.ts";
import { misplaced } from "../../lib/protowire.ts";
import { epochOf } from "../../policy/set/verdict.ts";
import { decodeVersion } from "../../policy/versions/codec.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";
import { isNewer, isSamePlace, type PolicyVersion, type VersionPlace } from "../../policy/versions/version.ts";
import type { PolicyMessage, PolicyPart } from "../codec.ts";
import type { CopyState } from "../disk/codec.ts";
import { EpochClaims, type PolicyServer, type UnmetClaim } from "./epoch-claims.ts";

/** Maximum size of an encoded version. */
const MAX_VERSION_BYTES = 16 * 1024 * 1024;
/** Maximum number of versions that an upstream may send before the state that references them. */
const MAX_ARRIVED = 100;

/** A complete version and its encoded size. */
export interface ReceivedVersion {
  readonly version: PolicyVersion;
  readonly sizeBytes: number;
}

interface IncomingVersion {
  readonly place: VersionPlace;
  readonly sizeBytes: number;
  readonly parts: Uint8Array[];
  length: number;
}

export class WatchedPolicy {
  readonly #engine: PolicyEngine;
  #isShown = () => true;
  #arriving: IncomingVersion | undefined;
  /** Complete versions that are waiting for the state that references them. */
  #arrived: ReceivedVersion[] = [];
  /**
   * Epochs of accepted versions, including those that lost their number to another version. A version is not included if its stream failed before the
   * state arrived.
   */
  readonly #seen = new BoundedMap<string, true>(MAX_ARRIVED);
  /** Claimed epochs whose versions are unknown to this resolver. */
  readonly #claims = new EpochClaims();
  /** The upstream of the open stream. Undefined without a stream. */
  #upstream: string | undefined;
  /** Undefined until that upstream has reported its versions. */
  #stating: PolicyServer | undefined;

  /** Until an upstream has reported its policy, `engine` hides all entries. */
  constructor(engine: PolicyEngine) {
    this.#engine = engine;
    engine.isAwaiting = engine.newestNumber === 0;
  }

  /**
   * Sets `isShown`, which returns whether a policy has been applied to the entries. Until then, all entries are hidden and answers must not report
   * them as absent.
   */
  setShown(isShown: () => boolean): void {
    this.#isShown = isShown;
  }

  /** Whether callers may be answered: the policy is known (or known not to exist) and has been applied, and no newer epoch was received. */
  get isReady(): boolean {
    return !this.#engine.isAwaiting && this.#claims.isEmpty && this.#isShown();
  }

  /** Versions that the upstream does not need to send. */
  get known(): readonly VersionPlace[] {
    return this.#engine.history().flatMap(({ facts, isSuperseded }) => (facts === undefined || isSuperseded ? [] : [facts]));
  }

  /**
   * The part of the policy that is saved for the next start: the versions that determine the policy in force, oldest first, and the state of the
   * other versions.
   */
  get kept(): { readonly versions: readonly PolicyVersion[]; readonly state: CopyState["policy"] } {
    const { inForce, newest, isAwaiting } = this.#engine;
    const versions = [inForce, inForce === newest ? undefined : newest].filter((version) => version !== undefined);
    return { versions, state: { isAwaited: isAwaiting, lacking: this.#claims.newest, seen: [...this.#seen.keys()] } };
  }

  /** A string that changes with the versions in `kept`, even if a version replaces another version with the same number. */
  get mark(): string {
    const { inForce, newest, isAwaiting } = this.#engine;
    const epochs = [inForce, newest].map((version) => version && epochOf(version));
    return [isAwaiting, ...epochs, this.#claims.newest].join(" ");
  }

  /** Restores the state from an earlier process. Must be called before an upstream sends messages. */
  restore(versions: readonly ReceivedVersion[], { isAwaited, lacking, seen }: CopyState["policy"]): void {
    for (const epoch of seen) this.#seen.set(epoch, true);
    this.#arrived = [...versions];
    this.#acceptArrived();
    if (!isAwaited) this.#engine.isAwaiting = false;
    if (lacking !== undefined) this.noteEpoch(lacking, { upstream: "", monoMs: 0 });
  }

  /** Returns to the initial state, in which the policy is unknown. */
  forget(): void {
    this.#engine.restore([]);
    this.#engine.isAwaiting = true;
    this.#claims.clear();
    this.#seen.clear();
  }

  /** Records that the stream to this upstream was opened, or that there is no longer a stream. Versions that were arriving must be sent again. */
  begin(upstream: string | undefined): void {
    this.#arriving = undefined;
    this.#arrived = [];
    this.#upstream = upstream;
    this.#stating = undefined;
  }

  /** Processes a message of WatchPolicy. Throws `invalid_argument` for a malformed message. The caller must then reopen the stream. */
  receive({ part, state }: PolicyMessage, monoMs: number): void {
    if (part !== undefined) this.#part(part, monoMs);
    if (state === undefined) return;
    if (this.#arriving !== undefined) throw misplaced("the state arrived before all parts of a policy version");
    for (const place of state.versions)
      if (!this.#has(place)) throw misplaced(`the state lists policy version ${place.number}, which was not sent`);
    const newest = Math.max(0, ...state.versions.map(({ number }) => number));
    if ((numberOf(state.policyEpoch) ?? 0) > newest)
      throw misplaced(`policy_epoch ${state.policyEpoch} is newer than all policy versions in the state`);
    this.#acceptArrived();
    if (state.policyEpoch !== "pending") this.#engine.isAwaiting = false;
    const upstream = this.#upstream ?? "";
    this.#stating ??= { upstream, progressMonoMs: monoMs };
    this.#claims.stated(monoMs);
    this.noteEpoch(state.policyEpoch, { upstream, monoMs });
  }

  /**
   * Records that an upstream sent data under this policy epoch. Callers are not answered until the version arrives or `takeUnmet` removes the claim.
   */
  noteEpoch(epoch: string, { upstream, monoMs }: { readonly upstream: string; readonly monoMs: number }): void {
    const number = numberOf(epoch);
    if (number === undefined || this.#knows(epoch, number)) return;
    this.#claims.add({ upstream, epoch }, number, this.#stating === undefined ? undefined : monoMs);
  }

  /** Removes and returns the expired claims. The version in force is not affected. */
  takeUnmet(monoMs: number): readonly UnmetClaim[] {
    return this.#claims.takeUnmet(this.#stating, monoMs);
  }

  /** Returns the monotonic time at which the next claim expires. */
  nextDeadlineMs(): number {
    return this.#claims.nextDeadlineMs(this.#stating);
  }

  #part({ place, offset, bytes, sizeBytes }: PolicyPart, monoMs: number): void {
    let arriving = this.#arriving;
    if (arriving === undefined) {
      if (sizeBytes > MAX_VERSION_BYTES)
        throw misplaced(`policy version too large: it has ${sizeBytes} bytes, and the limit is ${MAX_VERSION_BYTES}`);
      if (this.#arrived.length >= MAX_ARRIVED) throw misplaced(`more than ${MAX_ARRIVED} policy versions were sent without a state`);
      arriving = { place, sizeBytes, parts: [], length: 0 };
      this.#arriving = arriving;
    }
    const isNext = isSamePlace(place, arriving.place) && offset === arriving.length && sizeBytes === arriving.sizeBytes && bytes.length > 0;
    if (!isNext || arriving.length + bytes.length > sizeBytes)
      throw misplaced("a part of a policy version is out of order or exceeds the declared size");
    arriving.parts.push(bytes);
    arriving.length += bytes.length;
    const upstream = this.#upstream ?? "";
    if (this.#stating !== undefined && place.number >= (this.#claims.numberOf(upstream) ?? 0))
      this.#stating = { upstream, progressMonoMs: monoMs };
    if (arriving.length < sizeBytes) return;
    this.#arriving = undefined;
    const read = decodeVersion(Buffer.concat(arriving.parts));
    if (!read.ok) throw misplaced(`invalid policy version ${place.number}: ${read.fault}`);
    if (!isSamePlace(read.version, place))
      throw misplaced(`the content of policy version ${place.number} differs from the version that its parts declare`);
    this.#arrived.push({ version: read.version, sizeBytes });
  }

  #has(place: VersionPlace): boolean {
    // Versions older than the known version may have been dropped.
    return !isNewer(place, this.#engine.place) || this.#arrived.some(({ version }) => isSamePlace(version, place));
  }

  /**
   * Accepts the arrived versions, oldest first, as a node does. Versions older than the known version are skipped, because a resolver never returns
   * to an older policy.
   */
  #acceptArrived(): void {
    const inOrder = this.#arrived.toSorted((a, b) => (isNewer(a.version, b.version) ? 1 : -1));
    this.#arrived = [];
    for (const { version } of inOrder) this.#seen.set(epochOf(version), true);
    for (const { version, sizeBytes } of inOrder) if (isNewer(version, this.#engine.place)) this.#engine.take(version, sizeBytes);
    this.#claims.settle((epoch, number) => this.#knows(epoch, number));
  }

  /** Returns whether a version is known or older than the known version. */
  #knows(epoch: string, number: number): boolean {
    return number < this.#engine.newestNumber || this.#seen.has(epoch) || this.known.some((place) => epochOf(place) === epoch);
  }
}

/** Returns the number of the version in an epoch. Returns undefined for an epoch without a version. */
function numberOf(epoch: string): number | undefined {
  const [, number] = /^(\d{1,16})(?:-[0-9a-f]{12})?$/.exec(epoch) ?? [];
  return number === undefined ? undefined : Number(number);
}
