"""FramePath: the way of the images through one node, in threads of its process or in processes beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode

from ros_kd_perception.ros.node_parameters import NodeParameters, ParameterError
from ros_kd_perception.ros.running_model import RunningModel
from ros_kd_perception.ros.topics.camera_images import CameraImages
from ros_kd_perception.ros.topics.cameras import Cameras
from ros_kd_perception.ros.topics.sinks import make_sinks
from ros_kd_perception.ros.topics.topic_sink import SinkContext
from ros_kd_perception.ros.workers.remote_cameras import RemoteCameras
from ros_kd_perception.ros.workers.remote_results import RemoteResults
from ros_kd_perception.scheduling.idle_wait import IdleWait
from ros_kd_perception.scheduling.mailbox import Mailbox, QueuedMessage
from ros_kd_perception.scheduling.preparation import Preparation
from ros_kd_perception.scheduling.process_count import process_count
from ros_kd_perception.scheduling.remote_network import RemoteNetwork
from ros_kd_perception.scheduling.result_sink import ResultSink
from ros_kd_perception.scheduling.worker import NetworkUser


@dataclass(frozen=True)
class FramePath:
    """What differs between one process and several.

    Attributes:
        images: The subscriptions.
        sinks: The outputs. The first one decides whether a frame counts as published.
        network_of: Returns what runs a model on prepared frames.
        collect: Returns the message behind a waiting one.
        preparation: Prepares the frames, if this process does not.
        threads: Number of threads that prepare frames, or ask for them.
        ahead: Number of frames that may be ready while the network runs.
        idle_wait: Where the thread of the network waits while it has no frame.
    """

    images: Cameras | RemoteCameras
    sinks: Sequence[ResultSink]
    network_of: Callable[[RunningModel], NetworkUser]
    collect: Callable[[QueuedMessage[Any]], QueuedMessage[Any] | None]
    preparation: Preparation | None
    threads: int
    ahead: int
    idle_wait: IdleWait


def frame_path(
    node: LifecycleNode,
    parameters: NodeParameters,
    running: RunningModel,
    mailbox: Mailbox[Any],
    warn: Callable[[str], object],
    cancelled: Callable[[], bool],
) -> FramePath:
    """Make the path that the parameters ask for.

    Args:
        node: The node.
        parameters: Its parameters.
        running: The active model.
        mailbox: Gets a note of each waiting message.
        warn: Logs one sentence.
        cancelled: Polled while processes start; returns True to give up.

    Raises:
        ParameterError: The parameters do not fit the model, or worker processes cannot be started.
        ImportError: A package is missing.
    """
    cameras = parameters.cameras
    rates_hz = [settings.max_rate_hz for settings in parameters.camera_settings.values()]
    processes = process_count(parameters.preparation_processes, rates_hz, running.warm_up_ms)
    on_gpu = running.model.provider.on_gpu
    if processes:
        remote = RemoteCameras(node, parameters, running.model.contract, mailbox, processes, warn, cancelled)
        return FramePath(
            remote,
            [RemoteResults(remote)],
            lambda model: RemoteNetwork(model.model, remote.frames),
            lambda queued: queued,
            remote.frames,
            threads=1,
            ahead=len(cameras) if on_gpu else min(len(cameras), processes + 1),
            idle_wait=IdleWait(),
        )
    context = SinkContext(node, cameras, parameters.values, running.model.contract, running.builder, warn)
    try:
        sinks = make_sinks(context)
    except ValueError as error:
        raise ParameterError(str(error)) from None
    reliability, transports = parameters.image_reliability, parameters.image_transports
    images = Cameras(
        node,
        [CameraImages(node, camera, transports[camera], reliability) for camera in cameras],
        mailbox.put,
        mailbox.count_missed,
    )
    # A GPU runs the network faster than one thread decodes a JPEG; a CPU needs its cores for the network.
    pool_size = min(len(cameras), 4) if on_gpu else 1
    return FramePath(
        images,
        sinks,
        lambda model: model.perceiver,
        images.collect,
        None,
        threads=pool_size,
        ahead=pool_size,
        idle_wait=images.arrivals,
    )
