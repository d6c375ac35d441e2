"""EC2, Auto Scaling, ECS and STS on loopback: moto's server, and what stands in it."""

from contextlib import contextmanager
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"
ACCOUNT = "123456789012"
SERVICES = ("EC2", "AUTO_SCALING", "ECS", "STS")


class Cloud:
    """An account: instances and groups that tests put there.

    Args:
        url: Where moto listens.
    """

    def __init__(self, url):
        self.url = url
        self.ec2 = self._client("ec2")
        self.autoscaling = self._client("autoscaling")
        self.image = self.ec2.describe_images()["Images"][0]["ImageId"]

    def _client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="AKIACLOUD00000000000",
            aws_secret_access_key="secret-of-the-cloud",
            config=Config(proxies={}),
        )

    @property
    def environment(self):
        """The environment variables that lead clients here."""
        return {f"AWS_ENDPOINT_URL_{service}": self.url for service in SERVICES}

    def reset(self):
        """Forget everything."""
        request = Request(f"{self.url}/moto-api/reset", data=b"", method="POST")
        with urlopen(request) as answer:
            answer.read()

    def launch(self, **tags):
        """Start an instance with these tags and return its id."""
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        answer = self.ec2.run_instances(
            ImageId=self.image,
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": listed}]
            if listed
            else [],
        )
        return answer["Instances"][0]["InstanceId"]

    def client(self, service):
        """Return a client of any service that moto knows; close it."""
        return self._client(service)

    def add_instance_profile(self, name):
        """Let instances have a role."""
        iam = self._client("iam")
        iam.create_instance_profile(InstanceProfileName=name)
        iam.close()

    def describe(self, instance):
        """Return what EC2 says of an instance."""
        answer = self.ec2.describe_instances(InstanceIds=[instance])
        return answer["Reservations"][0]["Instances"][0]

    def terminate(self, *instances):
        """End instances."""
        self.ec2.terminate_instances(InstanceIds=list(instances))

    def create_group(self, name, size):
        """Create an Auto Scaling group and return its instances."""
        self.autoscaling.create_launch_configuration(
            LaunchConfigurationName=f"{name}-launch",
            ImageId=self.image,
            InstanceType="t3.micro",
        )
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchConfigurationName=f"{name}-launch",
            MinSize=size,
            MaxSize=size + 1,
            AvailabilityZones=[f"{REGION}a"],
        )
        return self.members(name)

    def members(self, name):
        """Return the ids of the group's instances."""
        answer = self.autoscaling.describe_auto_scaling_groups(
            AutoScalingGroupNames=[name]
        )
        instances = answer["AutoScalingGroups"][0]["Instances"]
        return [instance["InstanceId"] for instance in instances]

    def replace_member(self, instance):
        """Let the group terminate an instance and start another."""
        self.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=False
        )

    def detach_member(self, name, instance):
        """Let the group give an instance free, which runs on, and start another."""
        self.autoscaling.detach_instances(
            InstanceIds=[instance],
            AutoScalingGroupName=name,
            ShouldDecrementDesiredCapacity=False,
        )

    def close(self):
        """Close the clients."""
        self.ec2.close()
        self.autoscaling.close()


@contextmanager
def running():
    """Run an account."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = Cloud(f"http://{host}:{port}")
    try:
        yield account
    finally:
        account.close()
        server.stop()
