"""What a worker says when it ends."""

from __future__ import annotations

from faust.exceptions import ProducerSendError

from streamer.worker.runtime import WorkerError, _of_faust


def test_the_last_word_on_what_ended_faust_says_what_it_means() -> None:
    gave_up = _of_faust(ProducerSendError("Error while sending: KafkaTimeoutError()"))
    assert isinstance(gave_up, WorkerError)
    assert "Kafka took no state of the books" in str(gave_up) and "KafkaTimeoutError" in str(gave_up)
    assert isinstance(_of_faust(None), WorkerError)
    other = ValueError("a defect")
    assert _of_faust(other) is other
