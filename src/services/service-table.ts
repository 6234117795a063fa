/** Lists all services that the public listeners serve, including health and reflection. */
import { SERVICES, type ServiceName } from "../../gen/waymark/services.ts";
import { assert } from "../lib/errors.ts";
import { mustAnswer, routesOf, rpcName } from "./contract.ts";
import { HealthBoard } from "./health.ts";
import { reflectionServices } from "./reflection.ts";
import { routeName, rpcsOf, type ServiceDefinition } from "./service.ts";

/** The services of a process. The compiler reports an error if a service is missing. */
export type ServiceTable = Readonly<Record<ServiceName, ServiceDefinition>>;

export interface ServedServices {
  /** Excludes FabricService, which only the fabric listener serves. */
  readonly services: readonly ServiceDefinition[];
  /** Keeps the health of these services. */
  readonly health: HealthBoard;
}

type FurtherHealth = ConstructorParameters<typeof HealthBoard>[1];

/** Makes a service for each service descriptor in the protos. */
export function everyService(make: (desc: ServiceDefinition["desc"]) => ServiceDefinition): readonly ServiceDefinition[] {
  return Object.values(SERVICES).map(make);
}

/**
 * Lists the services of the protos, health, and reflection. A service that is missing in `built` responds to every call with `unimplemented`.
 * `further` is passed to `HealthBoard`. `descriptors` is the `FileDescriptorSet` for reflection. Without it, reflection is not served.
 */
export function listServices(built: readonly ServiceDefinition[], descriptors?: Uint8Array, further?: FurtherHealth): ServedServices {
  const own = everyService((desc) => built.find((service) => service.desc === desc) ?? { desc, handlers: {} });
  const health = new HealthBoard(own, further);
  const services = [...own, health.service];
  return { services: descriptors === undefined ? services : [...services, ...reflectionServices(descriptors, services)], health };
}

/** Aborts the start of a process that lacks a handler for an rpc or a route in the protos, or that has a route which the proto does not declare. */
export function checkAnswered(services: readonly ServiceDefinition[], isResolver: boolean): void {
  const paths = new Set(services.flatMap(({ routes = [] }) => routes.map(routeName)));
  for (const { methods, typeName } of Object.values(SERVICES)) {
    const { handlers = {}, routes = [] }: Partial<ServiceDefinition> = services.find(({ desc }) => desc.typeName === typeName) ?? {};
    for (const method of methods) {
      const isAnswered = handlers[method.localName] !== undefined;
      assert(isAnswered || !mustAnswer(method, isResolver), "rpc has no handler in this process", { rpc: rpcName(method) });
      for (const path of routesOf(method, isResolver))
        assert(paths.has(path), "route has no handler in this process", { path, rpc: rpcName(method) });
    }
    for (const route of routes) {
      for (const rpc of rpcsOf(route)) {
        const method = methods.find(({ localName }) => localName === rpc);
        const isNamed = method !== undefined && routesOf(method, false).includes(routeName(route));
        assert(isNamed, "route is not declared in the proto of its rpc", { path: routeName(route), rpc: `${typeName}/${rpc}` });
      }
    }
  }
}
