/**
 * A border: a cluster of another region that the settings name. What travels between regions travels on border links, and on nothing else
 * (docs/design/summaries.md, Borders).
 */
import type { OptionsOf } from "../../lib/machine.ts";
import type { LinkId } from "../io-types.ts";

/** What a node of the neighbour proves. */
export type BorderTrust =
  /** Its certificate is of this authority alone (`transport/border-gate.ts`), and names the cluster of the border. */
  | { readonly kind: "authority" }
  /** It shows a token, on loopback. */
  | { readonly kind: "token"; readonly token: string; readonly otherToken?: string | undefined };

/** A cluster of another region with which the settings name a border. */
export interface Neighbour {
  readonly clusterId: string;
  readonly region: string;
}

/** One of `fabric.borders`, with what its files hold. */
export interface Border extends Neighbour {
  /** Fabric addresses of nodes of the cluster. None: links come from the other side only. */
  readonly addresses: readonly string[];
  readonly trust: BorderTrust;
  /** Patterns of the namespaces that are shown here, and of those that are sent. */
  readonly imports: readonly string[];
  readonly exports: readonly string[];
  /** Changes other than beacons and withdrawals wait for so long for others. */
  readonly batchIntervalMs: number;
  /** 0: no bound. */
  readonly bytesPerSecond: number;
}

/** The other side of a border link that is up. */
export interface BorderPeer {
  readonly link: LinkId;
  readonly clusterId: string;
  readonly region: string;
  readonly nodeId: string;
  readonly isIncoming: boolean;
  readonly border: Border;
}

/** How many links a node has to a region. Nodes of one region tell each other, also that there are none. */
export interface BorderCount {
  readonly region: string;
  readonly links: number;
}

/** Another node of this region that has borders. */
export interface BorderNode {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly borders: readonly BorderCount[];
}

/** Most links of a pair of regions, as far as the nodes of one side know. */
export const MAX_PAIR_LINKS = 4;

/** What is not a setting. */
export const BORDER_LINKS_FIXED = {
  /** Links that others opened and that are being greeted, and as many that are being refused. */
  maxIncoming: 32,
  /** Of one neighbour, those that are being greeted. */
  maxGreeting: 8,
  openTimeoutMs: 10_000,
  helloTimeoutMs: 5000,
  endTimeoutMs: 2000,
  /** Waits between attempts at one address, with full jitter. */
  reconnectBaseMs: 250,
  reconnectMaxMs: 10_000,
  /** An address is tried again after this time, plus or minus half, when its node refused, or was refused. */
  refusedRetryMs: 60_000,
  /** Where an address leads is known for so long. While that node is linked, the address is not tried. */
  metForMs: 3_600_000,
  /** A link of this age has lasted. The next failure of its address counts as the first. */
  lastedMs: 5000,
  /** The region with the smaller name opens links. The other one opens some too after this time with fewer than are wanted. */
  yieldMs: 5000,
  /** A link that this node opened and that is not wanted any more ends after this time. */
  notWantedMs: 30_000,
  /** Other nodes are told of a changed number of links at most this often. */
  tellEveryMs: 1000,
  /** Refusals told a minute and address. The rest is only counted. */
  maxEvents: 6,
} as const;

export type BorderLinksOptions = OptionsOf<typeof BORDER_LINKS_FIXED>;
