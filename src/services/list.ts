/** Every service the public listeners serve, in one array: gRPC, the HTTP edge, health and reflection read it. */
import type { Service } from "./service.ts";
import { dnsStub, peerStub, policyStub, resolverStub } from "./stubs.ts";

/** The services with behaviour; what is absent is served as a stub that answers `unimplemented`. */
export interface BuiltServices {
  readonly discovery: Service;
  readonly policy?: Service;
  readonly resolver?: Service;
  readonly dns?: Service;
  readonly peers?: Service;
}

/** FabricService is not here: only the fabric listener serves it. */
export function listServices(built: BuiltServices): readonly Service[] {
  return [built.discovery, built.policy ?? policyStub, built.resolver ?? resolverStub, built.dns ?? dnsStub, built.peers ?? peerStub];
}
