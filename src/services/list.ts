/** The list of all services that the public listeners serve, including health and reflection. */
import type { DescService } from "@bufbuild/protobuf";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { HealthBoard } from "./health.ts";
import { reflectionServices } from "./reflection.ts";
import type { Service } from "./service.ts";

/** The services that the node builds. A node has all of them. Tests of a listener leave out those that they do not need. */
export interface BuiltServices {
  readonly discovery: Service;
  readonly policy?: Service;
  readonly peers?: Service;
}

export interface ServedServices {
  /** Without FabricService, which only the fabric listener serves. */
  readonly services: readonly Service[];
  /** Keeps the health of these services. */
  readonly health: HealthBoard;
}

/** `descriptors` is the `FileDescriptorSet` that reflection answers from. Without it there is no reflection. */
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

/** A service whose every method answers `unimplemented`, because it comes with a later version or was not built. */
function unimplemented(desc: DescService): Service {
  return { desc, handlers: {} };
}
