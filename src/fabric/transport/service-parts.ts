/** What the methods of `FabricService` share: who calls them, and what their handlers are given. */
import type { Call } from "../../grpc/server/method.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import type { TransportLimits } from "./limits.ts";
import type { LinkClock } from "./link-stream.ts";
import type { WireTraffic } from "./traffic.ts";

/** The cluster token of a call, where no certificate says who makes it. */
export const TOKEN_HEADER = "waymark-cluster-token";

/** Who makes a call, and the connection it came on. */
export interface CallingPeer {
  readonly identity: PeerIdentity;
  /** Its hello came on a link, with this cluster token. */
  readonly greeted: (clusterToken: string) => void;
  /** Closes the connection after so many ms. */
  readonly cut: (afterMs: number) => void;
  /** Why the connection was cut here; undefined unless it was. */
  readonly whyCut: () => string | undefined;
}

export interface ServiceParts<Events> {
  readonly limits: TransportLimits;
  readonly events: Events & {
    /** A peer was turned away. */
    refused(why: string, address: string): void;
  };
  readonly traffic: WireTraffic;
  readonly clock: LinkClock;
  /** Throws where calls are not taken any more. */
  readonly peerOf: (call: Call) => CallingPeer;
}
