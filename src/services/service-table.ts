/** The list of all services that the public listeners serve, including health and reflection. */
import { SERVICES, type ServiceName } from "../../gen/waymark/services.ts";
import { assert } from "../lib/errors.ts";
import { mustAnswer, routesOf, rpcName } from "./contract.ts";
import { HealthBoard } from "./health.ts";
import { reflectionServices } from "./reflection.ts";
import { rpcsOf, type ServiceDefinition } from "./service.ts";

/** The services of a process: the compiler names one that is left out. */
export type ServiceTable = Readonly<Record<ServiceName, ServiceDefinition>>;

export interface ServedServices {
  /** Without FabricService, which only the fabric listener serves. */
  readonly services: readonly ServiceDefinition[];
  /** Keeps the health of these services. */
  readonly health: HealthBoard;
}

type FurtherHealth = ConstructorParameters<typeof HealthBoard>[1];

/** Makes a service from each that is in the protos. */
export function everyService(make: (desc: ServiceDefinition["desc"]) => ServiceDefinition): readonly ServiceDefinition[] {
  return Object.values(SERVICES).map(make);
}

/**
 * A service of the protos that is not among those built answers `unimplemented` to every call. `further`: as for `HealthBoard`. `descriptors` is the
 * `FileDescriptorSet` that reflection answers from. Without it there is no reflection.
 */
export function listServices(built: readonly ServiceDefinition[], descriptors?: Uint8Array, further?: FurtherHealth): ServedServices {
  const own = everyService((desc) => built.find((service) => service.desc === desc) ?? { desc, handlers: {} });
  const health = new HealthBoard(own, further);
  const services = [...own, health.service];
  return { services: descriptors === undefined ? services : [...services, ...reflectionServices(descriptors, services)], health };
}

/** Ends the start of a process that has no way to answer an rpc or a route of the protos, or that has a route which the proto does not name. */
export function checkAnswered(services: readonly ServiceDefinition[], isResolver: boolean): void {
  const paths = new Set(services.flatMap(({ routes = [] }) => routes.map(({ path }) => path)));
  for (const { methods, typeName } of Object.values(SERVICES)) {
    const { handlers = {}, routes = [] }: Partial<ServiceDefinition> = services.find(({ desc }) => desc.typeName === typeName) ?? {};
    for (const method of methods) {
      const isAnswered = handlers[method.localName] !== undefined;
      assert(isAnswered || !mustAnswer(method, isResolver), "this process has no way to answer an rpc", { rpc: rpcName(method) });
      for (const path of routesOf(method, isResolver))
        assert(paths.has(path), "this process has no way to answer a route", { path, rpc: rpcName(method) });
    }
    for (const route of routes) {
      for (const rpc of rpcsOf(route)) {
        const method = methods.find(({ localName }) => localName === rpc);
        const isNamed = method !== undefined && routesOf(method, false).includes(route.path);
        assert(isNamed, "the proto of an rpc does not name its route", { path: route.path, rpc: `${typeName}/${rpc}` });
      }
    }
  }
}
