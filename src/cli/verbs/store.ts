/** Implements `store copy`: moves the control state of a stopped node into etcd. */
import { CommandError, EXIT } from "../exit.ts";
import type { VerbFunction } from "../table/verb.ts";
import { readForNode } from "./config.ts";

export const copy: VerbFunction = async ({ environment, flags, out }) => {
  const { settings } = await readForNode(environment, flags.text("config"), new Map());
  if (settings.store.kind !== "etcd")
    throw new CommandError('store.kind is not "etcd": set it and store.endpoints in the settings that --config names', EXIT.usage);
  const copied = await environment.copyStore(settings);
  const columns = [
    { title: "CLUSTER", text: ({ clusterId }: typeof copied) => clusterId },
    { title: "EPOCH", text: ({ epoch }: typeof copied) => String(epoch) },
    { title: "POLICY", text: ({ policyNumber }: typeof copied) => (policyNumber === 0 ? "-" : String(policyNumber)) },
  ];
  out.document({ ...copied }, { columns, rows: [copied] });
};
