// Made by scripts/gen-codec.ts from the protos of the services: change these, then `npm run gen`.
import { PolicyService } from "./policy/v1/policy_pb.js";
import { AuditService } from "./control/v1/audit_pb.js";
import { BootstrapService } from "./control/v1/bootstrap_pb.js";
import { ConfigService } from "./control/v1/config_pb.js";
import { CredentialService } from "./control/v1/credential_pb.js";
import { LeadershipService } from "./control/v1/leadership_pb.js";
import { PeerService } from "./control/v1/peer_pb.js";
import { RebalanceService } from "./control/v1/rebalance_pb.js";
import { ShardService } from "./control/v1/shard_pb.js";
import { DiscoveryService } from "./discovery/v1/discovery_pb.js";
import { DnsService } from "./dns/v1/dns_pb.js";
import { ResolverService } from "./resolver/v1/resolver_pb.js";

/** The services that nodes and resolvers serve to clients. */
export const SERVICES = { PolicyService, AuditService, BootstrapService, ConfigService, CredentialService, LeadershipService, PeerService, RebalanceService, ShardService, DiscoveryService, DnsService, ResolverService } as const;

export type ServiceName = keyof typeof SERVICES;
