/** The list of all services that the public listeners serve, including health and reflection. */
import type { DescService } from "@bufbuild/protobuf";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { HealthBoard } from "./health.ts";
import { reflectionServices } from "./reflection.ts";
import type { Service } from "./service.ts";

/** What the public listeners serve, beside health and reflection. */
const CONTRACT: readonly DescService[] = [DiscoveryService, PolicyService, ResolverService, DnsService, PeerService];

export interface ServedServices {
  /** Without FabricService, which only the fabric listener serves. */
  readonly services: readonly Service[];
  /** Keeps the health of these services. */
  readonly health: HealthBoard;
}

type FurtherHealth = ConstructorParameters<typeof HealthBoard>[1];

/**
 * A service of the contract that is not among those built answers `unimplemented` to every call: it comes with a later version, or a test
 * left it out. `further`: as for `HealthBoard`. `descriptors` is the `FileDescriptorSet` that reflection answers from. Without it there is no reflection.
 */
export function listServices(built: readonly Service[], descriptors?: Uint8Array, further?: FurtherHealth): ServedServices {
  const own = CONTRACT.map((desc) => built.find((service) => service.desc === desc) ?? { desc, handlers: {} });
  const health = new HealthBoard(own, further);
  const services = [...own, health.service];
  return { services: descriptors === undefined ? services : [...services, ...reflectionServices(descriptors, services)], health };
}
