/** Services of this version's contract whose behaviour comes later: every method answers `unimplemented`, and is listed. */
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import type { Service } from "./service.ts";

export const policyStub: Service = { desc: PolicyService, handlers: {} };
export const resolverStub: Service = { desc: ResolverService, handlers: {} };
export const dnsStub: Service = { desc: DnsService, handlers: {} };
export const peerStub: Service = { desc: PeerService, handlers: {} };
