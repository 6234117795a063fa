// Made by scripts/gen-codec.ts from the protos of the services: change these, then `npm run gen`.
import { ConfigService } from "./control/v1/config_pb.js";
import { LeadershipService } from "./control/v1/leadership_pb.js";
import { PeerService } from "./control/v1/peer_pb.js";
import { RebalanceService } from "./control/v1/rebalance_pb.js";
import { ShardService } from "./control/v1/shard_pb.js";
import { DiscoveryService } from "./discovery/v1/discovery_pb.js";
import { DnsService } from "./dns/v1/dns_pb.js";
import { PolicyService } from "./policy/v1/policy_pb.js";
import { ResolverService } from "./resolver/v1/resolver_pb.js";

/** The services that nodes and resolvers serve to clients. */
export const SERVICES = { ConfigService, LeadershipService, PeerService, RebalanceService, ShardService, DiscoveryService, DnsService, PolicyService, ResolverService } as const;

export type ServiceName = keyof typeof SERVICES;
