/** The filter flags that query and watch share. */
import { UsageError } from "./exit.ts";
import type { Flags } from "./flags.ts";
import { healthOf, kindOf, scopeOf } from "./words.ts";

/** The filter as the contract's fields; positional arguments are names. */
export function filterOf(flags: Flags, names: readonly string[]) {
  const namespace = flags.text("namespace");
  const namespacePrefix = flags.text("prefix");
  if (namespace !== undefined && namespacePrefix !== undefined) throw new UsageError("--namespace and --prefix exclude each other");
  return {
    namespace: namespace ?? "",
    namespacePrefix: namespacePrefix ?? "",
    names: [...names],
    kinds: flags.list("kind").map(kindOf),
    scope: scopeOf(flags.text("scope")),
    tags: [...flags.list("tag")],
    capabilities: [...flags.list("capability")],
    resources: [...flags.list("resource")],
    clusterId: flags.text("clusterId") ?? "",
    region: flags.text("region") ?? "",
    health: flags.list("health").map(healthOf),
    versionRange: flags.text("versionRange") ?? "",
  };
}
