/**
 * The policy by which a resolver judges its callers: the versions of its upstream, of which it selects the one in force as a node does (semantics.md, Resolver 15).
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

/** Most bytes of an encoded version. */
const MAX_VERSION_BYTES = 16 * 1024 * 1024;
/** Most versions that are sent before the state that names them. */
const MAX_ARRIVED = 100;

/** A whole version, and the size of its bytes. */
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
  /** Whole versions, until the state says which there are. */
  #arrived: ReceivedVersion[] = [];
  /** Epochs of versions that were taken, also of those that lost their number to another one. One whose stream broke before the state came is not known. */
  readonly #seen = new BoundedMap<string, true>(MAX_ARRIVED);
  /** Epochs that were heard of and are not known here. */
  readonly #lacking = new EpochClaims();
  /** The upstream whose stream is open. Undefined without one. */
  #upstream: string | undefined;
  /** Undefined until that upstream has said which versions there are. */
  #stating: PolicyServer | undefined;

  /** Until an upstream has said what its policy is, `engine` shows nothing. */
  constructor(engine: PolicyEngine) {
    this.#engine = engine;
    engine.isAwaiting = engine.newestNumber === 0;
  }

  /** `isShown`: whether entries follow a policy already. Before they follow the first they are all hidden, and no answer may say that they are not there. */
  setShown(isShown: () => boolean): void {
    this.#isShown = isShown;
  }

  /** Whether callers may be answered: there is a policy, or there is known to be none, and it is as new as everything that was heard. */
  get isReady(): boolean {
    return !this.#engine.isAwaiting && this.#lacking.isEmpty && this.#isShown();
  }

  /** The versions that an upstream need not send. */
  get known(): readonly VersionPlace[] {
    return this.#engine.history().flatMap(({ facts, isSuperseded }) => (facts === undefined || isSuperseded ? [] : [facts]));
  }

  /** What is kept of the policy for the next start: the versions that decide, oldest first, and what is known of others. */
  get kept(): { readonly versions: readonly PolicyVersion[]; readonly state: CopyState["policy"] } {
    const { inForce, newest, isAwaiting } = this.#engine;
    const versions = [inForce, inForce === newest ? undefined : newest].filter((version) => version !== undefined);
    return { versions, state: { isAwaited: isAwaiting, lacking: this.#lacking.newest, seen: [...this.#seen.keys()] } };
  }

  /** A text that changes with what `kept` says of the versions that decide, also where one takes the number of another. */
  get mark(): string {
    const { inForce, newest, isAwaiting } = this.#engine;
    const epochs = [inForce, newest].map((version) => version && epochOf(version));
    return [isAwaiting, ...epochs, this.#lacking.newest].join(" ");
  }

  /** Takes what was kept at an earlier time. To be called before an upstream says anything. */
  restore(versions: readonly ReceivedVersion[], { isAwaited, lacking, seen }: CopyState["policy"]): void {
    for (const epoch of seen) this.#seen.set(epoch, true);
    this.#arrived = [...versions];
    this.#take();
    if (!isAwaited) this.#engine.isAwaiting = false;
    if (lacking !== undefined) this.heardEpoch(lacking, { upstream: "", monoMs: 0 });
  }

  /** Nothing is known of the policy, as at the beginning. */
  forget(): void {
    this.#engine.restore([]);
    this.#engine.isAwaiting = true;
    this.#lacking.clear();
    this.#seen.clear();
  }

  /** A stream of this upstream is opened, or there is none any more: what was arriving begins again. */
  begin(upstream: string | undefined): void {
    this.#arriving = undefined;
    this.#arrived = [];
    this.#upstream = upstream;
    this.#stating = undefined;
  }

  /** A message of WatchPolicy. Throws `invalid_argument` for what no server of ours can have sent; the stream is then to be opened anew. */
  hear({ part, state }: PolicyMessage, monoMs: number): void {
    if (part !== undefined) this.#part(part, monoMs);
    if (state === undefined) return;
    if (this.#arriving !== undefined) throw misplaced("a version of the policy that ends before its end");
    for (const place of state.versions) if (!this.#has(place)) throw misplaced(`version ${place.number} of the policy was not sent`);
    const newest = Math.max(0, ...state.versions.map(({ number }) => number));
    if ((numberOf(state.policyEpoch) ?? 0) > newest) throw misplaced(`policy ${state.policyEpoch} in force, which is none of its versions`);
    this.#take();
    if (state.policyEpoch !== "pending") this.#engine.isAwaiting = false;
    const upstream = this.#upstream ?? "";
    this.#stating ??= { upstream, heardMonoMs: monoMs };
    this.#lacking.stated(monoMs);
    this.heardEpoch(state.policyEpoch, { upstream, monoMs });
  }

  /**
   * An upstream sent something that was made under that policy. Until its version is here nobody is answered; one that does not come is given up by
   * `takeUnmet`.
   */
  heardEpoch(epoch: string, { upstream, monoMs }: { readonly upstream: string; readonly monoMs: number }): void {
    const number = numberOf(epoch);
    if (number === undefined || this.#knows(epoch, number)) return;
    this.#lacking.add({ upstream, epoch }, number, this.#stating === undefined ? undefined : monoMs);
  }

  /** Epochs that are waited for no more, with the upstream that named each. No version that is in force goes with them. */
  takeUnmet(monoMs: number): readonly UnmetClaim[] {
    return this.#lacking.takeUnmet(this.#stating, monoMs);
  }

  /** Monotonic ms at which `takeUnmet` next has something. */
  nextDeadlineMs(): number {
    return this.#lacking.nextDeadlineMs(this.#stating);
  }

  #part({ place, offset, bytes, sizeBytes }: PolicyPart, monoMs: number): void {
    let arriving = this.#arriving;
    if (arriving === undefined) {
      if (sizeBytes > MAX_VERSION_BYTES) throw misplaced(`a version of the policy of ${sizeBytes} bytes, at most ${MAX_VERSION_BYTES}`);
      if (this.#arrived.length >= MAX_ARRIVED) throw misplaced(`more than ${MAX_ARRIVED} versions of the policy before a state`);
      arriving = { place, sizeBytes, parts: [], length: 0 };
      this.#arriving = arriving;
    }
    const isNext = isSamePlace(place, arriving.place) && offset === arriving.length && sizeBytes === arriving.sizeBytes && bytes.length > 0;
    if (!isNext || arriving.length + bytes.length > sizeBytes) throw misplaced("parts of versions of the policy out of order");
    arriving.parts.push(bytes);
    arriving.length += bytes.length;
    const upstream = this.#upstream ?? "";
    if (this.#stating !== undefined && place.number >= (this.#lacking.numberOf(upstream) ?? 0))
      this.#stating = { upstream, heardMonoMs: monoMs };
    if (arriving.length < sizeBytes) return;
    this.#arriving = undefined;
    const read = decodeVersion(Buffer.concat(arriving.parts));
    if (!read.ok) throw misplaced(`version ${place.number} of the policy: ${read.fault}`);
    if (!isSamePlace(read.version, place)) throw misplaced(`version ${place.number} of the policy has another place than its parts`);
    this.#arrived.push({ version: read.version, sizeBytes });
  }

  #has(place: VersionPlace): boolean {
    // One that is older than what is known may not be kept any more.
    return !isNewer(place, this.#engine.place) || this.#arrived.some(({ version }) => isSamePlace(version, place));
  }

  /** The versions are taken oldest first, as at a node. None of them is older than what is known: a resolver never goes back. */
  #take(): void {
    const inOrder = this.#arrived.toSorted((a, b) => (isNewer(a.version, b.version) ? 1 : -1));
    this.#arrived = [];
    for (const { version } of inOrder) this.#seen.set(epochOf(version), true);
    for (const { version, sizeBytes } of inOrder) if (isNewer(version, this.#engine.place)) this.#engine.take(version, sizeBytes);
    this.#lacking.settle((epoch, number) => this.#knows(epoch, number));
  }

  /** Whether a version is known here, or is older than what is. */
  #knows(epoch: string, number: number): boolean {
    return number < this.#engine.newestNumber || this.#seen.has(epoch) || this.known.some((place) => epochOf(place) === epoch);
  }
}

/** The number of the version that an epoch names. Undefined for the epochs of no version. */
function numberOf(epoch: string): number | undefined {
  const [, number] = /^(\d{1,16})(?:-[0-9a-f]{12})?$/.exec(epoch) ?? [];
  return number === undefined ? undefined : Number(number);
}
