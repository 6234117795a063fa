/** A node on which operators have done nothing, and that accepts everything. */
import type { CopiedItem } from "../../src/control/leadership/copy.ts";
import type { PeerRecord } from "../../src/control/peers/records.ts";
import type { HeartbeatGate } from "../../src/services/heartbeat-stream.ts";
import type { PeerOperationParts } from "../../src/services/peers/operations.ts";
import type { PeerParts } from "../../src/services/peers/peers.ts";
import type { NodeStatus } from "../../src/services/peers/status.ts";

export const OPEN_GATE: HeartbeatGate = { checkNew: () => {}, follow: () => () => {} };

/** A node without findings. */
const STATUS: NodeStatus = {
  ready: true,
  detail: "",
  behind: 0,
  ageMs: 0,
  certificateEndWallMs: undefined,
  policyNumber: 0,
  leader: "",
  store: { kind: "embedded", id: "", epoch: 0, revision: 0, ageMs: 0, fault: "" },
  findings: [],
  evaluatedWallMs: 0,
  configDigest: "",
};

export const NO_OPERATIONS: Omit<PeerOperationParts, "checkCaughtUp" | "identity" | "source"> & Pick<PeerParts, "status"> = {
  status: () => STATUS,
  control: { isOwnStore: false, record: () => undefined, changePeer: () => Promise.resolve(), followPeers: () => () => {} },
  contentsOf: () => ({ leasedCount: 0, staticCount: 0, principals: new Map(), leaderships: [], shards: [] }),
  urlsOf: () => [],
  onOperation: () => {},
  audited: () => Promise.resolve(),
};

/** A record of operators, as a node knows it. */
export function recordOf(more: Partial<PeerRecord>): CopiedItem<PeerRecord> {
  const operation = { reason: "new disks", ticket: "OPS-7", actor: "ann", atWallMs: 1_760_000_000_000, requestIds: [] };
  const value = {
    desired: "active",
    desiredWallMs: 0,
    desiredReason: "",
    drain: undefined,
    labels: {},
    isForgotten: false,
    ...operation,
    ...more,
  } as const;
  return { version: 4, sinceMs: 0, value };
}
