/** The filter flags that query and watch share. */
import { WaymarkError } from "../lib/errors.ts";
import { VersionRange } from "../lib/versions.ts";
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
    versionRange: versionRangeOf(flags),
  };
}

/** Judged here by the rules of the server: what is wrong with a flag is told before anybody is asked. */
export function versionRangeOf(flags: Flags): string {
  const text = flags.text("versionRange") ?? "";
  try {
    return text === "" ? "" : new VersionRange(text).text;
  } catch (error) {
    const [violation] = error instanceof WaymarkError ? (error.details.violations ?? []) : [];
    if (violation === undefined) throw error;
    throw new UsageError(`--version-range: ${violation.description}`);
  }
}
