/** A node's summary replica, which hears the frames of others. */
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { buildFrame, FrameReceiver, type FrameReceiverSide, type OriginFrame } from "../../src/catalog/replica/frames.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { decodeRecord, encodeSummary, opened } from "../../src/summary/codec.ts";
import { recordKey } from "../../src/summary/keys.ts";
import { SummaryStamper } from "../../src/summary/stamper.ts";
import type { Summary } from "../../src/summary/summary.ts";
import { timeOf } from "./history.ts";
import { BOUNDS } from "./options.ts";
import { sealedAs } from "./summaries.ts";

const T = timeOf(1, 0);
const REGIONS = new Map([["eu-1", "eu"]]);

export class SummaryNode {
  readonly stamper = new SummaryStamper((cluster) => REGIONS.get(cluster));
  readonly replica: Replica;
  readonly clusterId: string;
  readonly #receiver: FrameReceiver;

  constructor(nodeId: string, clusterId = "eu-1") {
    this.clusterId = clusterId;
    const bounds = { tombstoneTtlMs: 60_000, minTombstones: 1_000 };
    const place = { clusterId, region: "eu" };
    this.replica = new Replica(new EntryIndex(), new Slab(), { ...bounds, nodeId, generation: 1, lastSeq: 0, floor: 0, place });
    this.#receiver = new FrameReceiver(this.replica, this.stamper, BOUNDS);
  }

  /** As a taker does: only what is above the version held. */
  take(summary: Summary): void {
    if (summary.version > (this.replica.view(recordKey(summary))?.hlc ?? 0)) this.put("summary", encodeSummary(summary));
  }

  put(what: "summary" | "beacon" | "key", signed: Uint8Array): void {
    this.stamper.stage(this.replica, opened(what, sealedAs(signed)));
    this.replica.commit(this.replica.lastSeq, T);
  }

  hear(frame: OriginFrame, from: SummaryNode) {
    return this.#receiver.apply(frame, T, { place: { clusterId: from.clusterId, region: "eu" } });
  }

  /** What it may tell another of its own records after a number. */
  frame(to: SummaryNode, after: number): OriginFrame {
    const link: FrameReceiverSide = { relation: to.clusterId === this.clusterId ? "cluster" : "region", clusterId: to.clusterId };
    return buildFrame(this.replica, this.replica.self, { after, isComplete: false }, link, 2_000);
  }

  /** Everything that another has of its own. */
  hearAll(from: SummaryNode): void {
    for (let after = 0; after < from.replica.self.through; ) {
      const frame = from.frame(this, after);
      this.hear(frame, from);
      after = frame.through;
    }
  }

  /** What is seen of a key, read from its bytes. */
  seen(summary: Summary): Summary | undefined {
    const view = this.replica.view(recordKey(summary));
    if (view === undefined) return undefined;
    const record = decodeRecord(this.replica.slab.view(view.at, view.sizeBytes));
    return record.what === "summary" ? record.summary : undefined;
  }
}
