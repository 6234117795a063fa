/** The fabric in a node: what the rest of it asks of the mesh, and tells it. */
import type { Time } from "../../lib/machine.ts";
import { lonePeerDirectory, type PeerDirectory } from "../../services/peer-directory.ts";
import type { MemberDirectory } from "../../services/peers.ts";
import type { NodeCore } from "../rooms.io.ts";

export interface NodeFabric {
  /** Where others reach this node; undefined while it has no fabric listener. */
  readonly listener: { readonly host: string; readonly port: number; readonly address: string } | undefined;
  readonly mesh: PeerDirectory;
  readonly peers: MemberDirectory;
  /** Begins to look for others. */
  start(): void;
  /** Resolves when what this node holds may be told as the truth: it has caught up with somebody, or decided that it is alone. */
  readonly ready: Promise<void>;
  /** Whether it serves alone though it was to join others: these may be there, and have what this node lacks. */
  readonly mayBeOthers: () => boolean;
  /** One line for `/readyz`, and whether it is ok. */
  readiness(time: Time): { readonly isReady: boolean; readonly detail: string };
  /** Reads certificates and cluster tokens again. */
  reload(): void;
  /** With `leave` and others alive, ends this node's entries for everybody; then says goodbye. At most `timeoutMs`. */
  stop(how: "leave" | "keep", timeoutMs: number): Promise<void>;
}

/** Of a node without a fabric. */
export function loneFabric({ identity, replica, state }: NodeCore, detail: string): NodeFabric {
  const mesh = lonePeerDirectory(identity.nodeId);
  const { nodeId, clusterId, region, zone, version, roles } = identity;
  const self = (time: Time) => ({
    ...NOBODY,
    nodeId,
    clusterId,
    region,
    zone,
    version,
    roles,
    generation: replica.self.generation,
    lastSeenWallMs: time.wallMs,
  });
  return {
    listener: undefined,
    mesh,
    peers: {
      members: (time) => [self(time)],
      member: (asked, time) => (asked === nodeId ? self(time) : undefined),
      story: () => ({ events: [], suspicionEndsWallMs: undefined, confirmedBy: [] }),
      lag: () => ({
        ...ALONE_LAG,
        detail,
        isReady: state.isReady,
        origins: [...replica.origins.values()].map((origin) => ({ ...origin, known: origin.through, refused: 0, whyPartial: "" })),
      }),
      follow: () => () => {},
    },
    start: () => {},
    ready: Promise.resolve(),
    mayBeOthers: () => false,
    readiness: () => ({ isReady: true, detail }),
    reload: () => {},
    stop: () => Promise.resolve(),
  };
}

/** What a node without a fabric says of itself beside its name. */
const NOBODY = {
  address: "",
  status: "alive",
  incarnation: 0,
  accuser: "",
  protocolVersions: [],
  transports: [],
  labels: {},
  healthScore: 0,
  rttMs: undefined,
  isSelf: true,
  isLinked: false,
} as const;
const ALONE_LAG = { isCaughtUp: true, isProtected: false, ageMs: 0, links: [] } as const;
