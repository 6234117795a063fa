/** A node on which operators have done nothing, and that accepts everything. */
import type { HeartbeatGate } from "../../src/services/heartbeat-stream.ts";
import type { PeerOperationParts } from "../../src/services/peers/operations.ts";

export const OPEN_GATE: HeartbeatGate = { checkNew: () => {}, follow: () => () => {} };

export const NO_OPERATIONS: Omit<PeerOperationParts, "checkCaughtUp" | "identity" | "source"> = {
  control: { isOwnStore: false, record: () => undefined, changePeer: () => Promise.resolve(), followPeers: () => () => {} },
  contentsOf: () => ({ leasedCount: 0, staticCount: 0, principals: new Map(), leaderships: [], shards: [] }),
  urlsOf: () => [],
  onOperation: () => {},
  audited: () => Promise.resolve(),
};
