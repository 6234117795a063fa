/** Where a node says that it is reached. */
import { newEntry } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { serverPort } from "../../lib/protocols.ts";
import type { EntryView, TargetView } from "./view.ts";

/** Scheme, host in brackets, other host, port. */
const URL_PARTS = /^(?:([a-z][a-z0-9+.-]*):\/\/|(?!.*:\/\/))(?:[^@/?#]*@)?(?:\[([^\]]+)\]|([^:/?#]+))(?::(\d{1,5})(?!\d))?/i;

/** The endpoints of a node's advertised URLs. Port 0 where the URL names none. */
export function advertisedTargets(entry: Pick<EntryView, "read">): readonly TargetView[] {
  const detail = entry.read("detail");
  const urls = detail.case === "node" ? detail.value.advertisedUrls : [];
  return urls.flatMap((url) => advertisedTarget(url) ?? []);
}

/** The endpoint of such a URL. Port 0 where it names none; undefined for a URL without a host. */
export function advertisedTarget(url: string): TargetView | undefined {
  const [, scheme = "", bracketed, plain, port] = URL_PARTS.exec(url) ?? [];
  const host = bracketed ?? plain;
  const protocol = scheme.toLowerCase();
  const number = Number(port ?? serverPort(scheme) ?? 0);
  return host === undefined ? undefined : { name: "", host, port: number > 65_535 ? 0 : number, priority: 0, weight: 0, protocol };
}

/** An entry that stands for what is reached at these places. */
export function viewOfPlaces(
  targets: readonly TargetView[],
  facts: Pick<EntryView, "health" | "key" | "region" | "scope" | "ttlMs">,
): EntryView {
  return { nodeId: "", zone: "", ...facts, load: undefined, targets, read: (field) => newEntry()[field] };
}
