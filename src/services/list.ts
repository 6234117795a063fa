/** Every service that the public listeners serve, in one array, health and reflection among them. */
import type { DescService } from "@bufbuild/protobuf";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { HealthBoard } from "./health.ts";
import { reflectionServices } from "./reflection.ts";
import type { Service } from "./service.ts";

/** The services with behaviour of our own. A node has all of them; a listener alone is tried without those that it does not need. */
export interface BuiltServices {
  readonly discovery: Service;
  readonly policy?: Service;
  readonly peers?: Service;
}

export interface ServedServices {
  /** FabricService is not among them: only the fabric listener serves it. */
  readonly services: readonly Service[];
  /** Who is told whether they serve. */
  readonly health: HealthBoard;
}

/** `descriptors`: the `FileDescriptorSet` that reflection answers from; without it there is no reflection. */
export function listServices({ discovery, policy, peers }: BuiltServices, descriptors?: Uint8Array): ServedServices {
  const own = [
    discovery,
    policy ?? unimplemented(PolicyService),
    unimplemented(ResolverService),
    unimplemented(DnsService),
    peers ?? unimplemented(PeerService),
  ];
  const health = new HealthBoard(own);
  const services = [...own, health.service];
  return { services: descriptors === undefined ? services : [...services, ...reflectionServices(descriptors, services)], health };
}

/** Listed, and every method answers `unimplemented`: what it does comes with a later version, or was not given. */
function unimplemented(desc: DescService): Service {
  return { desc, handlers: {} };
}
