Feature: Repeats cause no work
  Contract, section 2: a broker may deliver twice, and a sender may ask again.

  Background:
    Given a running agent

  Scenario: The same job delivered twice is worked on once
    When a create job of 16 MiB for "twice" is sent twice
    Then it is answered PENDING once and DONE at least once, and nothing else
    And a volume is attached at "twice"
    When a delete job for "twice" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A finished job sent again gets its final answer again
    Given a create job of 16 MiB for "again" is sent
    And it is answered PENDING and DONE, and nothing else
    When the same job is sent again
    Then it is answered DONE, and nothing else
    And the volume at "again" is the same as before

  Scenario: A failed job sent again gets its reason again
    Given a file "file"
    And a create job of 16 MiB for "file" is sent
    And it fails with "conflict"
    When the same job is sent again
    Then it is answered FAILED, and nothing else

  Scenario: The same id with other content is refused
    Given a create job of 16 MiB for "one" is sent
    And it is answered PENDING and DONE, and nothing else
    When a job with the same id but for "other" is sent
    Then it is refused with "job-id-reused"
    And no volume is attached at "other"
    And a volume is attached at "one"

  Scenario: A finished job sent again after its volume has changed is refused
    Given a create job of 16 MiB for "changed" is sent
    And it is answered PENDING and DONE, and nothing else
    When a delete job for "changed" is sent
    Then it is answered PENDING and DONE, and nothing else
    When the create job is sent again
    Then it is refused with "job-id-reused"
    And nothing is left

  Scenario: A finished job is remembered over a restart
    Given a create job of 16 MiB for "kept" is sent
    And it is answered PENDING and DONE, and nothing else
    When the agent is stopped
    And the agent starts
    And the same job is sent again
    Then it is answered DONE, and nothing else
    And the volume at "kept" is the same as before

  Scenario: A refused job is not remembered
    Given it publishes to create:
      """
      {"job": "mended", "sipId": "{sender}", "mountPount": "{root}/mended", "volumeSize": "0"}
      """
    And it is refused with "bad-request"
    When it publishes to create:
      """
      {"job": "mended", "sipId": "{sender}", "mountPount": "{root}/mended", "volumeSize": "16"}
      """
    Then it is answered PENDING and DONE, and nothing else

  @loop
  Scenario: A create repeated 50 times with new ids formats once
    Given a volume of 16 MiB at "steady"
    And a file at "steady/precious"
    And the volume at "steady" is quiet
    When the image's bytes are noted
    And a create job of 16 MiB for "steady" is sent 50 times with new ids
    Then all of them are answered PENDING and DONE, and nothing else
    And the image's bytes are the same
    And the file "steady/precious" is as it was

  @fake
  Scenario: A create repeated 50 times with new ids touches nothing
    Given a volume of 16 MiB at "steady"
    And a file at "steady/precious"
    When a create job of 16 MiB for "steady" is sent 50 times with new ids
    Then all of them are answered PENDING and DONE, and nothing else
    And the file "steady/precious" is as it was

  @failpoints
  Scenario: The same job while it runs is not answered
    Given the agent is stopped
    And an agent whose work waits 1000 milliseconds once
    And the agent starts
    When a create job of 16 MiB for "running" is sent twice
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "running"
