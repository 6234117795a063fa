/** Every service the public listeners serve, in one array: gRPC, the HTTP edge, health and reflection read it. */
import type { DescService } from "@bufbuild/protobuf";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import type { Service } from "./service.ts";

/** The services with behaviour. A node has all of them; a listener alone is tried without those that it does not need. */
export interface BuiltServices {
  readonly discovery: Service;
  readonly policy?: Service;
  readonly peers?: Service;
}

/** FabricService is not here: only the fabric listener serves it. */
export function listServices({ discovery, policy, peers }: BuiltServices): readonly Service[] {
  return [
    discovery,
    policy ?? unimplemented(PolicyService),
    unimplemented(ResolverService),
    unimplemented(DnsService),
    peers ?? unimplemented(PeerService),
  ];
}

/** Listed, and every method answers `unimplemented`: what it does comes with a later version, or was not given. */
function unimplemented(desc: DescService): Service {
  return { desc, handlers: {} };
}
