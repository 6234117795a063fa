/** Whether the settings of a node mean that its cluster exports summaries. Which nodes then do it is decided while they run. */
import type { Settings } from "../../../config/settings.ts";

/**
 * On where borders are set, so that a cluster without a key says that it exports nothing. On also where the settings have a key of this cluster, the
 * private or the public one: it exports although the borders of its region are set in another cluster. Without either the cluster only reads.
 */
export function isMeantToExport({ summary, fabric, node }: Settings): boolean {
  const { exportEnabled, signingKeyFile, keys } = summary;
  const hasKey = signingKeyFile !== undefined || keys.some(({ clusterId }) => clusterId === node.clusterId);
  return exportEnabled ?? (fabric.borders.length > 0 || hasKey);
}
