/**
 * The rooms of a read worker: a copy of the replica of its node, and all that answers readers from it. They do what `CopyFeed` says, in that order, and
 * answer as the rooms of the main thread would have at that point.
 */
import { ReplicaCopy } from "../../../catalog/copy/replica-copy.ts";
import type { Said, SaidReader } from "../../../catalog/copy/said.ts";
import { EntryStamper } from "../../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../catalog/entry/names.ts";
import type { LoadView } from "../../../catalog/entry/view.ts";
import { Lookup } from "../../../catalog/query/lookup.ts";
import type { KeyText } from "../../../catalog/record/record.ts";
import { Slab } from "../../../catalog/record/slab.ts";
import { TraitsPool } from "../../../catalog/record/traits.ts";
import { Replica, type ReplicaOptions } from "../../../catalog/replica/replica.ts";
import type { NameIndexBounds } from "../../../catalog/watch/name-index.ts";
import { DnsNames, plainName } from "../../../discovery/dns-names.ts";
import { Fanout } from "../../../discovery/fanout.ts";
import { isAdmitted } from "../../../discovery/policy-switch.ts";
import { Reads } from "../../../discovery/reads.ts";
import { SwitchQueue } from "../../../discovery/switch-queue.ts";
import type { AddressBlock } from "../../../lib/addresses.ts";
import { assert } from "../../../lib/errors.ts";
import { NO_POLICY, PENDING_POLICY, Policy } from "../../../policy/set/verdict.ts";
import type { OnDenied } from "../../../policy/set/visibility.ts";
import { DiscoveryBytes } from "../../../services/discovery/response-bytes.ts";
import { MARK, type SaidPolicy } from "./copy-feed.ts";

export interface CopyRoomsOptions {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** The generation of the replica when the feed began. */
  readonly generation: number;
  /** The process of the node, which its threads share. */
  readonly boot: string;
  /** As the replica's. */
  readonly catalog: Pick<ReplicaOptions, "minTombstones" | "pastTouches" | "tombstoneTtlMs">;
  /** Of DNS. */
  readonly zones: readonly string[];
  /** The addresses of reverse zones. */
  readonly blocks?: readonly AddressBlock[] | undefined;
  readonly onDenied: OnDenied;
  /** Called when a watcher must be woken. */
  readonly onAgain: () => void;
  readonly nameBounds?: NameIndexBounds;
  /** Traits that entries share, at most. */
  readonly maxTraits?: number;
}

export class CopyRooms {
  readonly replica: Replica;
  readonly fanout: Fanout;
  readonly dnsNames: DnsNames;
  readonly reads: Reads;
  readonly bytes: DiscoveryBytes;
  /** The last reports about the node's own entries. */
  readonly loads: { of(key: KeyText): LoadView | undefined };
  /** The policy in force. Until it is told there is none, and readers see nothing. */
  readonly policies: { readonly policy: Policy };
  readonly switches: SwitchQueue;
  readonly #copy: ReplicaCopy;
  readonly #loads = new Map<KeyText, LoadView>();
  readonly #onAgain: () => void;
  #policy: Policy = PENDING_POLICY;
  /** What DNS and watches know of. */
  #shown = { revision: 0, collectedRevision: 0 };

  constructor({ generation, catalog, zones, blocks, onDenied, onAgain, nameBounds, maxTraits, ...facts }: CopyRoomsOptions) {
    const { nodeId, clusterId } = facts;
    const inForce = () => this.#policy;
    const policies = {
      get policy() {
        return inForce();
      },
    };
    const replica = new Replica(new Lookup(), new Slab(), { nodeId, generation, lastSeq: 0, floor: 0, ...catalog });
    replica.setAdmission((stored) => isAdmitted(this.#policy, stored, clusterId));
    this.replica = replica;
    this.policies = policies;
    this.#onAgain = onAgain;
    this.fanout = new Fanout(onAgain, nameBounds);
    this.dnsNames = new DnsNames(replica, zones.map(plainName), blocks);
    const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool(maxTraits) });
    this.reads = new Reads(replica, facts, { policies, onDenied });
    this.switches = new SwitchQueue({ policies, replica, reads: this.reads, fanout: this.fanout, clusterId });
    this.loads = { of: (key) => this.#loads.get(key) };
    this.bytes = new DiscoveryBytes(replica.slab, this.loads);
    this.#copy = new ReplicaCopy({
      replica,
      stamper,
      onMark: (mark, said) => this.#heed(mark, said),
      onWhole: () => this.switches.start(),
    });
  }

  /** Whether readers may be answered. */
  get isWhole(): boolean {
    return this.#copy.isWhole;
  }

  /** Does what the feed says, and then notes for DNS and for watches what is new. */
  hear(said: Said): void {
    this.#copy.hear(said);
    if (!this.isWhole) return;
    this.#show();
    this.#onAgain();
    this.switches.onFollowed();
  }

  /** HOT: once a report of load too, of which no watch is to be woken. */
  #show(): void {
    const { revision, collectedRevision } = this.replica;
    const touched = this.replica.takeTouched();
    if (touched.size === 0 && revision === this.#shown.revision && collectedRevision === this.#shown.collectedRevision) return;
    this.#shown = { revision, collectedRevision };
    this.dnsNames.refresh();
    this.fanout.changed(touched);
  }

  #heed(mark: number, said: Pick<SaidReader, "number" | "text" | "value">): void {
    switch (mark) {
      case MARK.POLICY:
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the feed says a policy
        this.#policy = policyOf(said.value() as SaidPolicy);
        return;
      case MARK.BEGIN:
        return this.switches.begin(said.number());
      case MARK.SHOW:
        return this.switches.show();
      case MARK.LOAD:
        return this.#load(said);
      case MARK.UNLOAD:
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the feed says the text of a key
        return void this.#loads.delete(said.text() as KeyText);
      case MARK.ALL_WATCHES:
        return this.fanout.all();
      case MARK.END_WATCHES:
        return this.fanout.end();
      default:
        assert(false, "a feed has a mark that is not known here", { mark });
    }
  }

  #load(said: Pick<SaidReader, "number" | "text">): void {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    const key = said.text() as KeyText;
    const [activeClients, errorRate, latencyMs] = [said.number(), said.number(), said.number()];
    const [utilization, observedWallMs] = [said.number(), said.number()];
    this.#loads.set(key, { activeClients, errorRate, latencyMs, utilization, observedWallMs });
  }
}

function policyOf({ set, number, checksum, isPending }: SaidPolicy): Policy {
  if (set === undefined) return NO_POLICY;
  return isPending ? PENDING_POLICY : new Policy(set, number, { checksum });
}
