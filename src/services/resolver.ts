/** ResolverService: the lookup of a name. A node has no cache that the other calls could be about; a resolver brings handlers for them. */
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { WaymarkError } from "../lib/errors.ts";
import type { Handler, HandlersOf, Service } from "./service.ts";

/** `resolve`: the handler of `Resolve`, which reads have. */
export function resolverService(resolve: Handler): Service {
  const disabled: Handler = { kind: "unary", handle: refuse };
  const handlers: HandlersOf<typeof ResolverService> = {
    resolve,
    cacheStats: disabled,
    resync: disabled,
    prewarm: disabled,
    evict: disabled,
  };
  return {
    desc: ResolverService,
    handlers,
    routes: [{ path: "/discovery/cache", parameters: [], rpc: "cacheStats", answer: refuse }],
  };
}

function refuse(): never {
  throw new WaymarkError("resolver_disabled", "this server is a node, which has no cache: ask a resolver");
}
