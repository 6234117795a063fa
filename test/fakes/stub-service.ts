/** All services of the protos, of which no method and no route is called. */
import { type DescMethod, type DescService, getOption } from "@bufbuild/protobuf";
import { call } from "../../gen/waymark/options/v1/options_pb.js";
import type { HttpRoute, MethodHandler, ServiceDefinition } from "../../src/services/service.ts";
import { everyService } from "../../src/services/service-table.ts";

const never = (): never => {
  throw new Error("a stub was called");
};

function stubHandler({ methodKind }: DescMethod): MethodHandler {
  return methodKind === "unary" ? { kind: methodKind, handle: never } : { kind: methodKind, open: never };
}

/** `ownOf`: handlers that are more than stubs. */
export function stubServices(ownOf: (desc: DescService) => ServiceDefinition["handlers"] = () => ({})): readonly ServiceDefinition[] {
  const paths = new Set<string>();
  const routesOf = (method: DescMethod): readonly HttpRoute[] => {
    const fresh = getOption(method, call).routes.filter((path) => !paths.has(path));
    for (const path of fresh) paths.add(path);
    return fresh.map((path) => ({ path, parameters: [], rpc: method.localName, answer: never }));
  };
  return everyService((desc) => ({
    desc,
    handlers: { ...Object.fromEntries(desc.methods.map((method) => [method.localName, stubHandler(method)])), ...ownOf(desc) },
    routes: desc.methods.flatMap(routesOf),
  }));
}
